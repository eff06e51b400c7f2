"""Leaving the accumulator's format for the lane's."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_round import ExactRound
from hdl.arith.float_accumulator import accumulator_type
from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulatorRound", "accumulator_round"]


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


def accumulator_round(config: AcceleratorConfig) -> AccumulatorRound | ExactRound:
    """What turns a word of the accumulation buffer into a lane word, ``value`` to ``result``."""
    if config.acc == "exact":
        return ExactRound(config.format, config.k_max)
    return AccumulatorRound(config.acc, config.lane.name)
