"""What a test requires of the machine it runs on: tools, oracles, downloads.

Where one is missing the test is skipped with a line that names it; with ``CI=true`` in the
environment it fails instead. No test skips in another way.
"""

import os
import shutil
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import NoReturn, TypeVar

import pytest

from compiler.checkpoints.packages import ModelUnavailable
from sim.harness.verilate import VerilatorMissing
from synth.library import LibraryMissing
from synth.lint import ToolMissing

__all__ = ["LACKING", "command", "missing", "module", "require"]

T = TypeVar("T")
LACKING = (LibraryMissing, ModelUnavailable, ToolMissing, VerilatorMissing)


def missing(what: str) -> NoReturn:
    """End the test: skipped, or failed under CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"required where CI=true: {what}", pytrace=False)
    pytest.skip(what)


def require(obtain: Callable[..., T], *arguments: object) -> T:
    """``obtain(*arguments)``; where that raises one of ``LACKING`` the test ends as ``missing``."""
    try:
        return obtain(*arguments)
    except LACKING as error:
        missing(str(error))


def command(*names: str) -> None:
    """For ``require``: programs that must be on PATH."""
    for name in names:
        if shutil.which(name) is None:
            raise ToolMissing(f"{name} is not installed")


def module(name: str) -> ModuleType:
    """For ``require``: a module that must be installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ToolMissing(f"{name} is not installed") from error
