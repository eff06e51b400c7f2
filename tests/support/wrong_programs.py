"""Programs with a mistake in them, so that a comparison of results proves that it can fail."""

import pytest

from compiler.program.builder import ProgramBuilder

__all__ = ["keys_as_they_are"]


def keys_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of a 16 × 16 A and a B of 16 rows, keys' gradients among them, take A as it is
    stored where they should take it transposed."""
    right = ProgramBuilder.gemm

    def wrong(self, a, b, *arguments, **transposed):
        if a.rows == b.rows == a.columns == 16:
            transposed["a_transposed"] = False
        right(self, a, b, *arguments, **transposed)

    monkeypatch.setattr(ProgramBuilder, "gemm", wrong)
