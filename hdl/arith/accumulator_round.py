"""From the accumulator's format to the lane's."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_round import ExactRound
from hdl.arith.float_accumulator import accumulator_type
from hdl.codec.bfloat16_round import bfloat16_round
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import round_cycles

__all__ = ["AccumulatorRound", "accumulator_round"]


class AccumulatorRound(wiring.Component):
    """Combinational: accumulator word → lane word, one RNE (numerics: Accumulators).

    Equal types pass unchanged. FP32 → BF16: beyond the largest finite value Inf, subnormals zero
    with their sign, NaN the canonical NaN.

    Members
    -------
    value: In, a word of ``acc``.
    result: Out, a word of ``lane``.

    Raises
    ------
    ValueError: ``acc`` or ``lane`` is not known, or ``acc`` is the narrower one.
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
        m.d.comb += self.result.eq(bfloat16_round(m, self.value, "value", flush=True))
        return m


def accumulator_round(config: AcceleratorConfig) -> AccumulatorRound | ExactRound:
    """What converts a word of the accumulation buffer into a lane word, ``value`` to ``result``,
    ``round_cycles`` later."""
    if config.exact_sums:
        return ExactRound(config.format, config.k_max, cuts=round_cycles(config))
    return AccumulatorRound(config.acc, config.lane.name)
