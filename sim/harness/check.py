"""Comparing many results at once."""

from collections.abc import Mapping

import numpy as np

__all__ = ["check", "count_mismatches"]


def count_mismatches(got: np.ndarray, expected: np.ndarray) -> int:
    """How many elements differ; ``ValueError`` where the shapes do, or nothing is compared."""
    if got.shape != expected.shape or got.size == 0:
        raise ValueError(f"results must be as many as expected and at least one, "
                         f"not {got.shape} against {expected.shape}")
    return int(np.count_nonzero(got != expected))


def check(label: str, got: np.ndarray, expected: np.ndarray,
          inputs: Mapping[str, np.ndarray] | None = None) -> int:
    """Print ``label: N cases`` and give N; ``AssertionError`` shows the first mismatch."""
    wrong = count_mismatches(got, expected)
    print(f"{label}: {got.size} cases, {wrong} mismatches")
    if wrong:
        at = int(np.argmax(got != expected))
        case = ", ".join(f"{name}={_show(values, at)}" for name, values in (inputs or {}).items())
        raise AssertionError(f"{label}: {wrong} of {got.size} cases differ; case {at}: "
                             f"got {got.flat[at]:#x}, expected {expected.flat[at]:#x}; {case}")
    return got.size


def _show(values: np.ndarray | int, at: int) -> str:
    value = np.asarray(values).flat[at] if np.ndim(values) else values
    return f"{int(value):#x}"
