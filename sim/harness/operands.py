"""Operands for batched checks: unpacked fields of values, and words by class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hdl.spec.formats import FixedType, Format, LaneType

__all__ = ["exact_values", "integers", "join_fields", "lane_words", "split_fields", "unpack"]


def unpack(fmt: Format, values: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Unpacked fields of decoded ``values``: sign, exponent, significand, is_zero, is_nar; of a
    format of integers, number alone.

    Fields that carry no meaning (exponent and significand under a flag, the sign of NaR) are
    random, so that nothing may depend on them. ``ValueError`` where a value does not fit.
    """
    if fmt.integer:
        half = 1 << fmt.significand_bits - 1
        if np.any((values != np.rint(values)) | (values < -half) | (values >= half)):
            raise ValueError(f"values must be integers of {fmt.name}")
        return {"number": values.astype(np.int64) & (1 << fmt.significand_bits) - 1}
    nar, zero = np.isnan(values), values == 0
    void = nar | zero
    fraction, exponent = np.frexp(np.where(void, 1.0, np.abs(values)))
    scaled = np.ldexp(fraction, fmt.significand_bits)
    exponent = exponent.astype(np.int64) - 1
    limit = 1 << fmt.exponent_bits - 1
    if np.any(scaled != np.rint(scaled)) or np.any((exponent < -limit) | (exponent >= limit)):
        raise ValueError(f"values must fit the unpacked operand of {fmt.name}")
    size = values.shape
    noise = rng.integers(0, 1 << fmt.significand_bits, size)
    return {
        "sign": np.where(nar, rng.integers(0, 2, size), np.signbit(values)),
        "exponent": np.where(void, rng.integers(-limit, limit, size), exponent),
        "significand": np.where(void, noise, scaled.astype(np.int64)),
        "is_zero": zero.astype(np.int64),
        "is_nar": nar.astype(np.int64),
    }


def integers(words: ArrayLike, bits: int) -> np.ndarray:
    """Values (float64) of words of ``bits`` bits in two's complement, 63 at most."""
    words = np.asarray(words).astype(np.int64)
    return (words - (words >> bits - 1 << bits)).astype(np.float64)


def exact_values(sign: np.ndarray, exponent: np.ndarray, bits: int, significand: np.ndarray,
                 point: int) -> np.ndarray:
    """Values of unpacked fields: ``exponent`` a word of ``bits`` bits in two's complement,
    ``significand`` an integer with ``point`` fraction bits."""
    exponent = exponent.astype(np.int64)
    exponent = np.where(exponent >> bits - 1 == 1, exponent - (1 << bits), exponent)
    value = np.ldexp(significand.astype(np.float64), exponent - point)
    return np.where(sign == 1, -value, value)


def lane_words(lane: LaneType | FixedType, cases: int, rng: np.random.Generator) -> np.ndarray:
    """Words of ``lane``: half uniform, the rest zeros, subnormals, limits, Inf, NaN, powers of
    two and their neighbours, each with both signs. Of integers half have any size, the rest are
    limits, powers of two, and their neighbours."""
    if isinstance(lane, FixedType):
        size = rng.integers(1, lane.bits, cases)
        words = rng.integers(lane.least, lane.most + 1, cases) >> size - 1
        edges = rng.choice(np.array([0, lane.least, lane.most]), cases)
        near = np.where(rng.random(cases) < .3, edges, rng.choice([-1, 1], cases) << size - 1)
        near = np.clip(near + rng.integers(-2, 3, cases), lane.least, lane.most)
        return np.where(rng.random(cases) < .5, words, near) & (1 << lane.bits) - 1
    f, top = lane.fraction_bits, (1 << lane.exponent_bits) - 1
    uniform = rng.integers(0, 1 << lane.bits, cases, dtype=np.int64)
    edges = np.array([0, 1, (1 << f) - 1, 1 << f, (1 << f) + 1, (top << f) - 1, top << f,
                      (top << f) + 1, lane.nan, (lane.bias << f)], np.int64)
    near = (rng.integers(1, top, cases) << f) + rng.integers(-2, 3, cases)
    word = np.select([uniform & 3 == 0, uniform & 3 == 1],
                     [rng.choice(edges, cases), near], uniform)
    return word | rng.integers(0, 2, cases) << lane.bits - 1


def join_fields(fields: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Wide port values from ``(values, bits)`` fields, the lowest first, each at most 64 bits.

    Values of shape (cases, elements) are as many fields of ``bits`` bits. Result: (cases, words) of
    32-bit words, the form that ``Batch`` takes for ports above 64 bits.
    """
    columns = []
    for values, bits in fields:
        array = np.asarray(values).astype(np.uint64)
        array = array[:, None] if array.ndim == 1 else array
        for element in array.T:
            octets = np.ascontiguousarray(element).view(np.uint8).reshape(-1, 8)
            columns.append(np.unpackbits(octets, axis=1, bitorder="little")[:, :bits])
    joined = np.concatenate(columns, axis=1)
    joined = np.pad(joined, ((0, 0), (0, -joined.shape[1] % 32)))
    return np.packbits(joined, axis=1, bitorder="little").view(np.uint32)


def split_fields(words: np.ndarray, offset: int, bits: int, elements: int) -> np.ndarray:
    """``elements`` fields of ``bits`` bits from ``offset`` on of wide port values: uint64, (cases,
    elements)."""
    octets = np.ascontiguousarray(words, np.uint32).view(np.uint8)
    flat = np.unpackbits(octets, axis=1, bitorder="little")[:, offset:offset + bits * elements]
    fields = np.pad(flat.reshape(len(words), elements, bits), ((0, 0), (0, 0), (0, 64 - bits)))
    return np.packbits(fields, axis=2, bitorder="little").view(np.uint64)[:, :, 0]
