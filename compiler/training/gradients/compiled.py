"""Loops of ``EightBit`` over float32 values, compiled by numba.

Values come as their words (uint32). A BF16 word is the upper half of one; ``table`` holds a result
for each of its 65,536. Compiled code is kept as in ``sim.model.kept``.
"""

import numpy as np

from sim.model.kept import compiled

__all__ = ["look_up", "look_up_any", "round_words", "store_scaled"]

_HALF = np.uint32(0x7FFF)
_KEPT = np.uint32(0xFFFF0000)
_EXPONENT = np.uint32(0x7F800000)
_SIGN = np.uint32(0x80000000)
_16 = np.uint32(16)
_1 = np.uint32(1)
_0 = np.uint32(0)
_SMALLEST = np.uint32(1 << 23)
_FRACTION = np.uint32((1 << 23) - 1)
_NEARLY = np.uint32(0x7FC000)  # eight bits of a subnormal this large round to the smallest normal


@compiled
def round_words(words: np.ndarray, out: np.ndarray) -> None:
    """To the nearest BF16, ties to even, with an exponent without bounds; then subnormals become
    zeros of their sign."""
    for i in range(words.size):
        word = words[i]
        rounded = (word + _HALF + ((word >> _16) & _1)) & _KEPT
        if word & _EXPONENT:
            out[i] = rounded
        else:
            out[i] = word & _SIGN | (_SMALLEST if word & _FRACTION >= _NEARLY else _0)


@compiled
def look_up(words: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``table`` of each word, which is one of BF16."""
    for i in range(words.size):
        out[i] = table[words[i] >> _16]


@compiled
def look_up_any(words: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``table`` of each word; what BF16 does not hold of it sets the last bit that it does.

    For tables that change at words whose last bit is 0 alone, which those of 8-bit formats do:
    their boundaries have at most six fraction bits."""
    for i in range(words.size):
        word = words[i]
        out[i] = table[(word >> _16) | ((word & ~_KEPT) != 0)]


@compiled
def store_scaled(values: np.ndarray, scale: np.float32, table: np.ndarray, limit: np.float32,
                 words: np.ndarray, out: np.ndarray) -> tuple[float, int]:
    """``table`` of ``values`` · ``scale``, a power of two, then divided by it; ``words`` is memory
    for one word. Gives the largest magnitude of ``values`` and how many exceed ``limit`` once
    they are scaled; NaN if there is one."""
    largest, beyond, nan = np.float32(0), 0, False
    one = words.view(np.float32)
    inverse = np.float32(1) / scale
    for i in range(values.size):
        magnitude = abs(values[i])
        if not magnitude <= largest:
            nan = nan or magnitude != magnitude
            largest = magnitude
        if magnitude * scale > limit:
            beyond += 1
        one[0] = values[i] * scale
        out[i] = table[words[0] >> _16] * inverse
    return np.float32(np.nan) if nan else largest, beyond
