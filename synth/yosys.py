"""Runs Yosys scripts, each in a process of its own: a Yosys error ends the process it is in."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["YosysError", "quoted", "run_yosys", "yosys_version"]

_RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in sys.stdin:
    libyosys.run_pass(line.rstrip("\\n"), design)
"""


class YosysError(Exception):
    """Yosys stopped; the text is its error line."""


def run_yosys(script: Sequence[str], timeout: float = 1800) -> str:
    """The log of ``script``, one command per element; ``YosysError`` when it stops early.

    Runs in a temporary folder of its own, where ABC's files and caches end with it.
    """
    with tempfile.TemporaryDirectory(prefix="ottava-yosys-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", _RUNNER], input="\n".join(script) + "\n", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, cwd=folder,
            env={**os.environ, "TMPDIR": folder, "HOME": folder})
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line or "Error" in line]
        raise YosysError((errors or lines or ["no message"])[-1])
    return done.stdout


def yosys_version() -> str:
    """Release of the Yosys that ``run_yosys`` uses."""
    return f"Yosys {version('pyosys')} (pyosys)"


def quoted(path: Path) -> str:
    """``path`` as one word of a Yosys script."""
    return f'"{path}"'
