"""GELU, SiLU, sigmoid, tanh and slopes of a lane word, by one unit and a table each."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import cut_members, cut_name, holders
from hdl.arith.float_word import is_nan, normalise, pack
from hdl.arith.segments import evaluate
from hdl.codec.bfloat16_round import bfloat16_round
from hdl.spec.activations import ACTIVATIONS, FRACTION_BITS, INFERENCE
from hdl.spec.commands import Function
from hdl.spec.formats import BFLOAT16, LaneType
from hdl.spec.tables import Segments

__all__ = ["Activation"]

_PLACES = ("placed", "weighted", "multiplied")
_TAKEN = ((), ("weighted",), ("weighted", "multiplied"), _PLACES)
_OCTAVE_BITS = 3
_OCTAVES = max(activation.octaves for activation in ACTIVATIONS.values())


class Activation(wiring.Component):
    """``result`` = one of ``functions`` of ``value``, words of ``lane``, combinational; with
    ``cuts`` as many cycles with ``enable`` later: registers after the table, after the product
    with x, before the table.

    The six steps of ``hdl.spec.activations.Activation``. FP32 lanes round x to BF16 first.

    Ports
    -----
    function: which (``hdl.spec.commands.Function``); present where ``functions`` are several. Any
    other gives a meaningless word.
    """

    def __init__(self, lane: LaneType, functions: Sequence[Function] = INFERENCE,
                 cuts: int = 0):
        unknown = [function for function in functions if function not in ACTIVATIONS]
        if unknown or not functions:
            names = ", ".join(function.name for function in ACTIVATIONS)
            raise ValueError(f"functions must be of {names}, not {functions!r}")
        self.lane = lane
        self.functions = tuple(functions)
        self.cuts = cuts
        choice = {"function": In(4)} if len(self.functions) > 1 else {}
        super().__init__({"value": In(lane.bits), **choice, "result": Out(lane.bits),
                          **cut_members(cuts)})

    @property
    def leaf_name(self) -> str:
        names = "_".join(function.name.lower() for function in self.functions)
        if self.functions == INFERENCE:
            names = "activation"
        elif self.functions == tuple(ACTIVATIONS):
            names = "activation_training"
        return cut_name(f"{names}_{self.lane.name}", self.cuts)

    def elaborate(self, platform):
        m = Module()
        lane = self.lane
        x = Signal(16)
        if lane is BFLOAT16:
            m.d.comb += x.eq(self.value)
        else:  # a subnormal must not round up to the smallest normal value
            m.d.comb += x.eq(bfloat16_round(m, self.value, "value", flush=True))
        placed, hold, multiplied = holders(m, self, _PLACES, _TAKEN)
        sign, exponent = x[15], x[7:15]
        even = self._is_one_of([f for f in self.functions if ACTIVATIONS[f].even])
        times_x = self._is_one_of([f for f in self.functions if ACTIVATIONS[f].times_x])
        curve, table = self._table(m)
        argument = placed(Cat(self._argument(m, exponent, x[:7]), curve), "argument")
        nan, x = placed(is_nan(BFLOAT16, x), "nan"), placed(x, "x")
        sign, exponent = x[15], x[7:15]
        one = 1 << table.result_bits
        signed = any(ACTIVATIONS[f].signed for f in self.functions)
        y = Signal(table.result_bits + 1)
        weight = Signal(table.result_bits + 1)
        # 1 - y is never below 0; y of a slope is, -1/2 at least: its upper bits are those of none.
        negative = y[-2:].all() & sign if signed else Const(0, 1)
        far = Signal()
        alone = Signal()
        zero = Signal()
        flipped = Signal()
        m.d.comb += [
            y.eq(evaluate(m, table, argument)),
            far.eq(even & (exponent >= BFLOAT16.bias)),
            flipped.eq(Mux(even, far, ~sign)),
            weight.eq(Mux(~flipped & ~negative, y, Mux(negative, 0, one) - y) if signed
                      else Mux(flipped, one - y, y)),
            alone.eq(far | ~times_x),
            zero.eq(~weight.any() | (times_x & ~exponent.any())),
        ]
        minus = sign & times_x
        if signed:
            minus = minus | negative
        weight, alone, zero = hold(weight, "weight"), hold(alone, "alone"), hold(zero, "zero")
        nan, signed = hold(nan, "nan"), hold(minus, "signed")
        magnitude = self._multiply(m, hold(x[:15], "x"), weight, alone, multiplied)
        zero, nan = multiplied(zero, "zero"), multiplied(nan, "nan")
        signed = multiplied(signed, "signed")
        m.d.comb += self.result.eq(Mux(nan, lane.nan, Cat(Mux(zero, 0, magnitude), signed)))
        return m

    def _is_one_of(self, functions):
        """Whether ``function`` is one of these."""
        if len(functions) in (0, len(self.functions)):
            return Const(bool(functions), 1)
        return Cat(self.function == function for function in functions).any()

    def _argument(self, m, exponent, fraction):
        """u of steps 2 and 3; beyond every table the octave is the last, which none has."""
        octave = Signal(_OCTAVE_BITS)
        position = Signal(FRACTION_BITS)
        with m.If(exponent[7] | exponent[:7].all()):
            m.d.comb += [
                octave.eq(Mux(exponent >= BFLOAT16.bias + _OCTAVES,
                              ~Const(0, _OCTAVE_BITS), exponent[:_OCTAVE_BITS] + 2)),
                position.eq(Cat(Const(0, 2), fraction)),
            ]
        with m.Elif(exponent[4:7].all()):
            # abs(x) < 1: the significand with two zeros below it, shifted right by 127 - E.
            m.d.comb += position.eq(Cat(Const(0, 2), fraction, Const(1, 1)) >> ~exponent[:4])
        return Cat(position, octave)

    def _table(self, m):
        """The number of the function's curve, and all curves one after the other as one table."""
        curves = list(dict.fromkeys(ACTIVATIONS[f].segments for f in self.functions))
        curve = Signal(range(len(curves)))
        if len(curves) > 1:
            with m.Switch(self.function):
                for function in self.functions:
                    with m.Case(function):
                        m.d.comb += curve.eq(curves.index(ACTIVATIONS[function].segments))
        first = curves[0]
        base, slope = [], []
        for segments in curves:
            absent = (0,) * ((1 << first.segment_bits) - len(segments.base))
            base += segments.base + absent
            slope += segments.slope + absent
        return curve, Segments(first.argument_bits + len(curve), first.segment_bits + len(curve),
                               first.result_bits, first.shift, tuple(base), tuple(slope))

    def _multiply(self, m, x, weight, alone, multiplied):
        """Step 6: magnitude of x · weight, or of the weight where ``alone``; neither is zero.
        ``multiplied`` takes their product on."""
        lane = self.lane
        normalised, zeros = normalise(m, weight, "weight")
        significand = Signal(8)
        product = Signal(8 + len(weight))
        exponent = Signal(range(-(1 << len(zeros)), 257))
        high = product[-1]
        kept = lane.fraction_bits + 2
        m.d.comb += [
            significand.eq(Mux(alone, 128, Cat(x[:7], Const(1, 1)))),
            product.eq(significand * normalised),
            exponent.eq(Mux(alone, BFLOAT16.bias, x[7:]) - zeros + high),
        ]
        product, exponent = multiplied(product, "product"), multiplied(exponent, "exponent")
        high = product[-1]
        aligned = Signal(max(len(product), kept))
        m.d.comb += aligned[-len(product):].eq(Mux(high, product, product << 1))
        below = aligned[:-kept].any() if len(aligned) > kept else Const(0, 1)
        return pack(m, lane, exponent, aligned[-kept:], below, "result")
