"""Layouts of the records that the compiled functions share."""

__all__ = ["LANES", "arrays", "ints"]

LANES = ("read", "array", "vector", "write")
"""What works beside what."""


def ints(names: str) -> list[tuple[str, str]]:
    """Fields of one integer each."""
    return [(name, "i8") for name in names.split()]


def arrays(names: str, length: int) -> list[tuple[str, str, int]]:
    """Fields of ``length`` integers each."""
    return [(name, "i8", length) for name in names.split()]
