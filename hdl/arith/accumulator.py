"""At the foot of the array: adding tiles in the accumulator's format, and leaving it."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.float_add import FloatAdder
from hdl.arith.mac import accumulator_type

__all__ = ["AccumulatorAdder", "AccumulatorRound"]


class AccumulatorAdder(wiring.Component):
    """Combinational: ``total`` = ``stored`` + ``tile``, one RNE in the accumulator's format.

    All three are words of ``acc``. Rounding, zeros, NaN and Inf are the lanes' (``FloatAdder``):
    a K-tile is added to the accumulation buffer's word as any two floats are (numerics:
    Accumulators).
    """

    def __init__(self, acc: str):
        self.word = accumulator_type(acc)
        super().__init__({
            "stored": In(self.word.bits), "tile": In(self.word.bits), "total": Out(self.word.bits),
        })

    @property
    def leaf_name(self) -> str:
        return f"accumulator_add_{self.word.name}"

    def elaborate(self, platform):
        m = Module()
        m.submodules.adder = adder = FloatAdder(self.word)
        m.d.comb += [
            adder.a.eq(self.stored),
            adder.b.eq(self.tile),
            adder.subtract.eq(0),
            self.total.eq(adder.o),
        ]
        return m


class AccumulatorRound(wiring.Component):
    """Combinational: accumulator word → lane word, one RNE (numerics: Accumulators).

    Ports: ``value`` in, a word of ``acc``; ``result`` out, a word of ``lane``. Equal types pass
    unchanged. FP32 → BF16: beyond the largest finite value Inf, subnormals zero with their sign,
    NaN the canonical NaN.
    """

    def __init__(self, acc: str, lane: str):
        self.source = accumulator_type(acc)
        self.target = accumulator_type(lane)
        if self.source.bits < self.target.bits:
            raise ValueError(f"acc must be at least as wide as lane {lane!r}, not {acc!r}")
        super().__init__({"value": In(self.source.bits), "result": Out(self.target.bits)})

    @property
    def leaf_name(self) -> str:
        return f"accumulator_round_{self.source.name}_{self.target.name}"

    def elaborate(self, platform):
        m = Module()
        source, target = self.source, self.target
        if source is target:
            m.d.comb += self.result.eq(self.value)
            return m
        cut = source.bits - target.bits
        kept, below = self.value[cut:-1], self.value[:cut]
        field, fraction = self.value[source.fraction_bits:-1], self.value[:source.fraction_bits]
        special, rounded = Signal(), Signal(target.bits - 1)
        m.d.comb += [
            special.eq(field.all()),
            # A carry out of the fraction steps into the exponent, up to Inf's.
            rounded.eq(kept + (below[-1] & (below[:-1].any() | kept[0]) & ~special)),
            self.result.eq(Mux(special & fraction.any(), target.nan,
                               Cat(Mux(field.any(), rounded, 0), self.value[-1]))),
        ]
        return m
