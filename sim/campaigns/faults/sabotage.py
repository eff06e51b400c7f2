"""Negative controls of the campaign: a harness that occasionally lies must be detected."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hdl.spec.commands import ErrorCause
from sim.harness.accelerator import Accelerator, HungError, Result

__all__ = ["LIES", "Liar"]

_HONEST = 7  # runs between two lies


def _code(result: Result, memory: np.ndarray) -> Result:
    wrong = ErrorCause.BAD_MAGIC if ErrorCause.BAD_MAGIC not in result.errors else (
        ErrorCause.BAD_OPCODE)
    return replace(result, error=wrong, errors=(wrong,))


def _byte(result: Result, memory: np.ndarray) -> Result:
    memory[np.argmax(result.written)] ^= 1
    return result


def _stray(result: Result, memory: np.ndarray) -> Result:
    written = result.written.copy()
    written[-1] += 1
    return replace(result, written=written)


def _hang(result: Result, memory: np.ndarray) -> Result:
    raise HungError("no interrupt")


LIES: dict[str, Callable[[Result, np.ndarray], Result]] = {
    "code": _code, "byte": _byte, "stray": _stray, "hang": _hang,
    "address": lambda result, memory: replace(
        result, error_address=result.error_address + 4, error_client=7),
    "status": lambda result, memory: replace(result, status=result.status ^ 1),
    "bus": lambda result, memory: replace(result, violations=["arvalid fell before arready"]),
}


class Liar:
    """``machine``, whose every seventh result is spoiled by ``LIES[lie]``."""

    def __init__(self, machine: Accelerator, lie: str) -> None:
        self._machine = machine
        self._lie = LIES[lie]
        self._runs = 0
        self._memory: np.ndarray

    def __getattr__(self, name: str):
        return getattr(self._machine, name)

    def attached(self, memory: np.ndarray, *arguments: Any, **options: Any):
        self._memory = memory
        return self._machine.attached(memory, *arguments, **options)

    def collect(self, *arguments: Any, **options: Any) -> Result:
        result = self._machine.collect(*arguments, **options)
        self._runs += 1
        return result if self._runs % _HONEST else self._lie(result, self._memory)
