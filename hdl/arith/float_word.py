"""What the float units share: fields of a lane word, classes, counting normaliser, packing."""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hdl.spec.formats import LaneType

__all__ = [
    "FloatFields", "canonical", "flush", "infinity", "is_nan", "largest", "normalise", "pack",
    "unpack",
]


class FloatFields(NamedTuple):
    """Named signals of one word; ``significand`` has its hidden bit and is 0 for a flushed word."""

    sign: Signal
    exponent: Signal
    significand: Signal
    is_zero: Signal
    is_special: Signal
    is_nan: Signal


def infinity(lane: LaneType) -> int:
    """Magnitude bits of infinity."""
    return ((1 << lane.exponent_bits) - 1) << lane.fraction_bits


def largest(lane: LaneType) -> int:
    """Magnitude bits of the largest finite value."""
    return infinity(lane) - 1


def is_nan(lane: LaneType, word: Value) -> Value:
    """1 where ``word`` is any NaN."""
    fraction = word[:lane.fraction_bits]
    return word[lane.fraction_bits:lane.bits - 1].all() & fraction.any()


def canonical(lane: LaneType, word: Value) -> Value:
    """``word`` with any NaN made the canonical one."""
    return Mux(is_nan(lane, word), Const(lane.nan, lane.bits), word)


def flush(lane: LaneType, word: Value) -> Value:
    """``word`` with subnormals made zeros of their sign."""
    normal = word[lane.fraction_bits:lane.bits - 1].any()
    return Cat(word[:lane.fraction_bits] & normal.replicate(lane.fraction_bits),
               word[lane.fraction_bits:])


def unpack(m: Module, lane: LaneType, word: Value, prefix: str) -> FloatFields:
    """Fields of ``word``; a subnormal is a zero of its sign."""
    width = lane.fraction_bits
    fields = FloatFields(
        Signal(name=f"{prefix}_sign"), Signal(lane.exponent_bits, name=f"{prefix}_exponent"),
        Signal(width + 1, name=f"{prefix}_significand"), Signal(name=f"{prefix}_is_zero"),
        Signal(name=f"{prefix}_is_special"), Signal(name=f"{prefix}_is_nan"))
    normal = ~fields.is_zero
    m.d.comb += [
        fields.sign.eq(word[-1]),
        fields.exponent.eq(word[width:-1]),
        fields.is_zero.eq(~fields.exponent.any()),
        fields.significand.eq(Cat(word[:width] & normal.replicate(width), normal)),
        fields.is_special.eq(fields.exponent.all()),
        fields.is_nan.eq(fields.is_special & word[:width].any()),
    ]
    return fields


def normalise(m: Module, value: Value, name: str) -> tuple[Signal, Signal]:
    """Shift ``value`` left until its top bit is set: (shifted, count of leading zeros).

    One joint count and shift, a power of two per level, instead of a counter followed by a shifter
    (FloPoCo's Normalizer). A zero stays zero, its count is the largest that the levels can show.
    """
    width = len(value)
    levels = (width - 1).bit_length()
    count = Signal(levels, name=f"{name}_zeros")
    for level in reversed(range(levels)):
        step = 1 << level
        shifted = Signal(width, name=f"{name}_by_{step}")
        m.d.comb += [
            count[level].eq(~value[width - step:].any()),
            shifted.eq(Mux(count[level], value << step, value)),
        ]
        value = shifted
    return value, count


def pack(m: Module, lane: LaneType, exponent: Value, significand: Value, extra: Value,
         name: str) -> Signal:
    """Magnitude of a rounded finite result; RNE, underflow to zero, overflow to infinity.

    ``exponent``: signed biased exponent of the result before rounding. ``significand``: normalised,
    hidden bit and fraction, then the guard bit. ``extra``: 1 if anything below the guard is set.
    Underflow is decided after rounding with unbounded exponent (a carry may save the value).
    """
    width = lane.fraction_bits
    fraction = significand[1:width + 1]
    up = Signal(name=f"{name}_up")
    rounded = Signal(len(exponent) + 1 + width, name=f"{name}_rounded")
    magnitude = Signal(lane.bits - 1, name=f"{name}_magnitude")
    top = Signal(len(exponent) + 1, name=f"{name}_top")
    m.d.comb += [
        up.eq(significand[0] & (extra | significand[1])),
        rounded.eq(Cat(fraction, exponent.as_signed()).as_signed() + up),
        top.eq(rounded[width:]),
    ]
    negative = top[-1]
    with m.If(negative | ~top.any()):
        m.d.comb += magnitude.eq(0)
    with m.Elif(top[lane.exponent_bits:-1].any() | top[:lane.exponent_bits].all()):
        m.d.comb += magnitude.eq(infinity(lane))
    with m.Else():
        m.d.comb += magnitude.eq(rounded[:lane.bits - 1])
    return magnitude
