"""Counting bits."""

__all__ = ["count_ones"]


def count_ones(bits):
    """Number of ones, as a balanced tree."""
    terms = list(bits)
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(terms) - len(terms) % 2:]
    return terms[0]
