"""Which cases stand among the golden vectors: corners, ties and limits by class, then chance."""

from collections.abc import Iterable, Sequence

import numpy as np

from hdl.spec.formats import Encoding, FloatEncoding, LaneType
from sim.model.codec import decode, encode

__all__ = ["codes_by_class", "kinds", "lane_classes", "pairs", "picked", "values_to_encode"]


def kinds(encoding: Encoding, codes: np.ndarray) -> list[str]:
    """The class of each code by its value."""
    values = np.abs(decode(encoding, codes))
    every = np.abs(decode(encoding, np.arange(1 << encoding.bits)))
    regular = every[np.isfinite(every) & (every > 0)]
    least, most = regular.min(), regular.max()
    normal = 2.0 ** (1 - encoding.bias) if isinstance(encoding, FloatEncoding) else least
    return ["NaR" if np.isnan(v) else "zero" if v == 0 else "largest" if v == most
            else "smallest" if v == least else "subnormal" if v < normal else "normal"
            for v in values.tolist()]


def picked(rng: np.random.Generator, items: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of ``items``, in their order."""
    if len(items) <= count:
        return items
    return items[np.sort(rng.choice(len(items), count, replace=False))]


def codes_by_class(encoding: Encoding, rng: np.random.Generator) -> np.ndarray:
    """Every code of 8 bits; 200 of BF16, all classes among them."""
    codes = np.arange(1 << encoding.bits)
    if encoding.bits == 8:
        return codes
    classes = np.array(kinds(encoding, codes))
    counts = {"NaR": 8, "zero": 2, "smallest": 2, "largest": 2, "subnormal": 20, "normal": 166}
    return np.sort(np.concatenate([picked(rng, codes[classes == name], count)
                                   for name, count in counts.items()]))


def corner_codes(encoding: Encoding, rng: np.random.Generator, more: int = 4) -> np.ndarray:
    """NaR, zeros, the largest and smallest magnitudes of both signs, ±1, and ``more`` others."""
    codes = np.arange(1 << encoding.bits)
    classes = np.array(kinds(encoding, codes))
    ones = np.unique(encode(encoding, np.array([1.0, -1.0])).astype(np.int64))
    corners = [picked(rng, codes[classes == name], 2)
               for name in ("NaR", "zero", "smallest", "largest", "subnormal")]
    return np.concatenate([*corners, ones, picked(rng, codes[classes == "normal"], more)])


def pairs(a: Encoding, b: Encoding, rng: np.random.Generator, corners: int = 80,
          chance: int = 120) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Classes and codes of two operands: ``corners`` pairs of corner codes, then any."""
    left, right = (grid.ravel() for grid in np.meshgrid(
        corner_codes(a, rng), corner_codes(b, rng), indexing="ij"))
    kept = picked(rng, np.arange(left.size), corners)
    first = np.concatenate([left[kept], rng.integers(0, 1 << a.bits, chance)])
    second = np.concatenate([right[kept], rng.integers(0, 1 << b.bits, chance)])
    return ["corner"] * len(kept) + ["random"] * chance, first, second


def special_words(lane: LaneType) -> np.ndarray:
    """Zeros, subnormals, the ends of the normal range, infinities, NaNs, ±1."""
    f, top = lane.fraction_bits, (1 << lane.exponent_bits) - 1
    words = np.array([0, 1, (1 << f) - 1, 1 << f, (1 << f) + 1, lane.bias << f, (top << f) - 1,
                      top << f, top << f | 1, lane.nan], np.int64)
    return np.concatenate([words, words | 1 << lane.bits - 1])


def lane_classes(lane: LaneType, rng: np.random.Generator, near: int, chance: int,
                 octaves: Sequence[int] = (-10, 9)) -> tuple[list[str], np.ndarray]:
    """Words: specials, powers of two and neighbours, ``near`` within ``octaves`` of 1, any."""
    f = lane.fraction_bits
    special = special_words(lane)
    low, high = octaves
    powers = (lane.bias + np.arange(low, high, max(1, (high - low) // 8)) << f)
    edges = (powers[:, None] + np.array([-1, 0, 1])).ravel()
    edges = np.concatenate([edges, edges | 1 << lane.bits - 1])
    inside = (rng.integers(lane.bias + low, lane.bias + high, near) << f
              | rng.integers(0, 1 << f, near) | rng.integers(0, 2, near) << lane.bits - 1)
    parts = {"special": special, "power of two": edges, "random": inside,
             "any word": rng.integers(0, 1 << lane.bits, chance)}
    return _labelled(parts.items())


def values_to_encode(encoding: Encoding, lane: LaneType, rng: np.random.Generator
                     ) -> tuple[list[str], np.ndarray]:
    """Lane words: specials; where the code changes, with both neighbours; beyond the range; any."""
    from sim.model.rounding import from_words

    if encoding.bits == 16:
        halves = rng.integers(0, 0x7F80, 40) << 16 | 0x8000
        edges = (halves[:, None] + np.array([-1, 0, 1])).ravel()
        beyond = np.array([0x7F7F_7FFF, 0x7F7F_8000, 0x7F7F_FFFF, 0xFF7F_8000, 0xFF7F_FFFF])
    else:
        words = np.arange(0, 0x7F80)
        codes = encode(encoding, from_words(lane, words)).astype(np.int64)
        change = np.flatnonzero(np.diff(codes)) + 1
        kept = picked(rng, change, 40)
        edges = np.unique((kept[:, None] + np.array([-1, 0, 1])).ravel())
        last = int(change[-1])
        beyond = np.concatenate([np.array([last, last + 1, 0x7F7F]),
                                 rng.integers(last, 0x7F80, 12)])
    minus = rng.integers(0, 2, edges.size) << lane.bits - 1
    parts = {"special": special_words(lane), "boundary": edges | minus, "saturation": beyond,
             "random": rng.integers(0, 1 << lane.bits, 40)}
    return _labelled(parts.items())


def _labelled(parts: Iterable[tuple[str, np.ndarray]]) -> tuple[list[str], np.ndarray]:
    parts = list(parts)
    labels = [name for name, words in parts for _ in words]
    return labels, np.concatenate([words for _, words in parts]).astype(np.int64)
