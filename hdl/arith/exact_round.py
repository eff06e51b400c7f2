"""Exact accumulator → lane word: the one rounding that an exact sum sees."""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import cut_members, cut_name, holder
from hdl.arith.exact_sum import exact_word_bits
from hdl.lib import ripple
from hdl.spec.formats import Format, LaneType

__all__ = ["ExactRound", "rounded_magnitude"]


class ExactRound(wiring.Component):
    """Accumulator word → float, one RNE; or the lane word that it holds. Combinational, or with one
    of ``cuts`` a cycle with ``enable`` later: a register in the middle of the normalisation.

    ``target``: the float's type, by default fmt.lane. Ports: ``value`` in, ``exact_word_bits``
    (``ExactAccumulator``); ``is_lane_word`` in, 1 where the low bits of ``value`` are a lane word,
    which passes unchanged; ``result`` out. A zero is +0, NaR the canonical NaN; no sum of 8-bit
    products is subnormal or infinite in BF16.
    """

    def __init__(self, fmt: Format, k_max: int, target: LaneType | None = None,
                 cuts: int = 0):
        self.fmt = fmt
        self.k_max = k_max
        self.target = target or fmt.lane
        self.cuts = cuts
        super().__init__({"value": In(exact_word_bits(fmt, k_max)), "is_lane_word": In(1),
                          "result": Out(self.target.bits), **cut_members(cuts)})

    @property
    def leaf_name(self) -> str:
        name = f"accumulator_round_{self.fmt.name}_exact_{len(self.value)}"
        return cut_name(name if self.target is self.fmt.lane else f"{name}_{self.target.name}",
                        self.cuts)

    def elaborate(self, platform):
        m = Module()
        number = self.value if self.fmt.integer else self.value[:-1]
        hold = holder(m, self.enable if self.cuts else None)
        magnitude, sign = rounded_magnitude(m, number, self.target, self.fmt.product_unit_log2,
                                            hold)
        is_lane_word = hold(self.is_lane_word, "is_lane_word")
        lane_word, nar = hold(self.value[:self.fmt.lane.bits], "lane_word"), self.value[-1]
        if not self.fmt.integer:
            nar = hold(nar, "nar")
        with m.If(is_lane_word):
            m.d.comb += self.result.eq(lane_word)
        if not self.fmt.integer:
            with m.Elif(nar):
                m.d.comb += self.result.eq(self.target.nan)
        with m.Else():
            m.d.comb += self.result.eq(Cat(magnitude, sign))
        return m


def _at_once(value: Value, name: str) -> Value:
    """No cut (``hdl.arith.cut``)."""
    return value


def rounded_magnitude(m: Module, number: Value, lane: LaneType, unit_log2: int,
                      hold: Callable[[Value, str], Value] = _at_once) -> tuple[Value, Value]:
    """Magnitude bits and sign of the float nearest to ``number``, ties to even, an integer in two's
    complement that counts 2^``unit_log2``; no such integer may be below or beyond the normal
    values. ``hold`` takes across a cut, if there is one, what half of the normalisation gives."""
    sign, places = number[-1], len(number) - 1  # the places are below the sign
    top, spill, count, sign = _normalise(m, number[:places], sign, lane, hold)

    # Where the sum is negative, the ones' complement is one unit of the last place short of
    # its magnitude: endless ones below the spilled bits, unless one of those is set.
    kept, guard = Signal(lane.fraction_bits + 1), Signal()
    up = Signal()
    m.d.comb += [
        Cat(guard, kept).eq(top ^ sign.replicate(len(top))),
        up.eq(Mux(sign, guard | (~spill & kept[0]), guard & (spill | kept[0]))),
    ]
    field = Signal(lane.exponent_bits)
    m.d.comb += field.eq(lane.bias + unit_log2 + places - 1 - count)
    magnitude = ripple.increment(m, "magnitude", Cat(kept[:-1], field), up)[:-1]
    return magnitude & kept[-1].replicate(len(magnitude)), sign


def _normalise(m: Module, value: Value, sign: Value, lane: LaneType,
               hold: Callable[[Value, str], Value]) -> tuple[Value, Value, Value, Value]:
    """(significand and guard bit, anything below, count, sign): ``value`` shifted left by the
    number of its highest bits that equal ``sign``.

    One joint count and shift; each level keeps what the later ones can still bring up.
    """
    needed = lane.fraction_bits + 2
    levels = len(value).bit_length()
    spill: Value = Const(0, 1)
    count = Signal(levels)
    counted: Value = count
    for level in reversed(range(levels)):
        if level == levels // 2 - 1:
            value, spill, sign = hold(value, "value"), hold(spill, "spill"), hold(sign, "sign")
            above = hold(count[level + 1:], "count")
            if hold is not _at_once:
                counted = Cat(count[:level + 1], above)
        step = 1 << level
        head = value[-step:]
        width = step - 1 + needed
        shifted = Signal(width, name=f"by_{step}")
        after = Signal(name=f"spill_{step}")
        padded = Cat(Const(0, max(0, width + step - len(value))), value)
        stay, moved = padded[-width:], padded[-width - step:-step]
        m.d.comb += [
            count[level].eq(Mux(sign, head.all(), ~head.any())),
            shifted.eq(Mux(count[level], moved, stay)),
            after.eq(spill | padded[:-width - step].any()
                     | (~count[level] & padded[-width - step:-width].any())),
        ]
        value, spill = shifted, after
    return value, spill, counted, sign
