"""At the foot of the array: adding tiles in the accumulator's format, and leaving it."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact import ExactAccumulator
from hdl.arith.exact_round import ExactRound
from hdl.arith.float_accumulator import accumulator_type
from hdl.arith.float_add import FloatAdder
from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulatorAdder", "AccumulatorRound", "ExactAdder", "accumulator_adder",
           "accumulator_round"]


class AccumulatorAdder(wiring.Component):
    """Combinational: ``total`` = ``stored`` + ``tile``, one RNE in the accumulator's format, or the
    tile alone where it is the ``first``.

    ``stored``, ``tile`` and ``total`` are words of ``acc``. Rounding, zeros, NaN and Inf are the
    lanes' (``FloatAdder``): a K-tile is added to the accumulation buffer's word as any two floats
    are (numerics: Accumulators).
    """

    def __init__(self, acc: str):
        self.word = accumulator_type(acc)
        super().__init__({
            "stored": In(self.word.bits), "tile": In(self.word.bits), "first": In(1),
            "total": Out(self.word.bits),
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
            self.total.eq(Mux(self.first, self.tile, adder.o)),
        ]
        return m


class ExactAdder(wiring.Component):
    """Combinational: ``total`` = ``stored`` + ``tile``, or the tile alone if it is the ``first``.

    ``stored`` and ``total`` are accumulator words (``ExactAccumulator``), ``tile`` is the sum of
    config.dim products (``exact_sum``).
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({"stored": In(config.acc_bits), "tile": In(config.tile_bits),
                          "first": In(1), "total": Out(config.acc_bits)})

    @property
    def leaf_name(self) -> str:
        config = self.config
        return f"accumulator_add_{config.fmt}_exact_{config.acc_bits}_from_{config.dim}"

    def elaborate(self, platform):
        m = Module()
        config = self.config
        adder = ExactAccumulator(config.format, config.k_max, config.dim)
        m.submodules.adder = adder
        m.d.comb += [
            adder.psum_i.eq(Mux(self.first, 0, self.stored)),
            adder.addend.as_value().eq(self.tile),
            self.total.eq(adder.psum_o),
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


def accumulator_adder(config: AcceleratorConfig) -> AccumulatorAdder | ExactAdder:
    """What adds a tile to a word of the accumulation buffer; ports of ``AccumulatorAdder``."""
    return ExactAdder(config) if config.acc == "exact" else AccumulatorAdder(config.acc)


def accumulator_round(config: AcceleratorConfig) -> AccumulatorRound | ExactRound:
    """What turns a word of the accumulation buffer into a lane word, ``value`` to ``result``."""
    if config.acc == "exact":
        return ExactRound(config.format, config.k_max)
    return AccumulatorRound(config.acc, config.lane.name)
