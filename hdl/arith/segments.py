"""Evaluation of a piecewise-linear table and assembly of its result into a lane word."""

from amaranth.hdl import Cat, Const, Module, Signal, Value

from hdl.spec.formats import LaneType
from hdl.spec.tables import Segments

__all__ = ["evaluate", "scale_to_word"]


def _table(m: Module, index: Value, values: tuple[int, ...], name: str) -> Signal:
    """``values[index]`` as constant logic."""
    width = max(abs(value) for value in values).bit_length()
    out = Signal(width, name=name)
    with m.Switch(index):
        for number, value in enumerate(values):
            if value:
                with m.Case(number):
                    m.d.comb += out.eq(abs(value))
    return out


def evaluate(m: Module, segments: Segments, u: Value) -> Signal:
    """Significand of ``u``, ``result_bits`` + 2 bits: exactly ``segments(u)``. Of a table with a
    base below 0 one bit less, modulo 2^(``result_bits`` + 1): -1/2 and above can be told from 1."""
    falling = segments.slope[0] < 0
    index, offset = u[segments.offset_bits:], u[:segments.offset_bits]
    below_0 = min(segments.base) < 0
    value = Signal(segments.result_bits + segments.shift + (1 if below_0 else 2),
                   name="segment_value")
    bases, last = segments.base, (1 << segments.offset_bits) - 1
    if falling and max(segments.slope) > 0:
        # From the end of a segment that rises, backwards: there it falls, too.
        bases = tuple(base + max(slope, 0) * last
                      for base, slope in zip(bases, segments.slope, strict=True))
        rises = _table(m, index, tuple(int(slope > 0) for slope in segments.slope), "rises")
        offset = offset ^ rises.replicate(segments.offset_bits)
    base = _table(m, index, tuple(number % (1 << len(value)) for number in bases), "base")
    slope = _table(m, index, segments.slope, "slope")
    product = slope * offset
    m.d.comb += value.eq(base - product if falling else base + product)
    return value[segments.shift:]


def scale_to_word(m: Module, lane: LaneType, result_bits: int, field: Value,
                  significand: Value) -> tuple[Signal, Value, Value]:
    """(magnitude, underflow, overflow) of a significand in [1, 2] and a signed exponent field.

    A significand of 2 carries into the exponent. The magnitude is valid where neither flag is up.
    """
    top = Signal.like(field + 1, name="top")
    m.d.comb += top.eq(field + significand[result_bits + 1])
    fill = Const(0, lane.fraction_bits - result_bits)
    magnitude = Signal(lane.bits - 1, name="scaled")
    m.d.comb += magnitude.eq(Cat(fill, significand[:result_bits], top[:lane.exponent_bits]))
    return magnitude, top <= 0, top >= (1 << lane.exponent_bits) - 1
