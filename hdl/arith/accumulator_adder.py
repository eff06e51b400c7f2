"""Adding tiles' sums at the bottom of the array, in the accumulator's format."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_accumulator import ExactAccumulator
from hdl.arith.float_accumulator import accumulator_type
from hdl.arith.float_adder import FloatAdder
from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulatorAdder", "ExactAdder", "accumulator_adder"]


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


def accumulator_adder(config: AcceleratorConfig) -> AccumulatorAdder | ExactAdder:
    """What adds a tile to a word of the accumulation buffer; ports of ``AccumulatorAdder``."""
    return ExactAdder(config) if config.exact_sums else AccumulatorAdder(config.acc)
