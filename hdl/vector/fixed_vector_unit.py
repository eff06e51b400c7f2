"""The vector unit of integers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal

from hdl.arith.fixed_codec import FixedEntry, FixedRound
from hdl.lib.leaf import shared
from hdl.lib.ones import count_ones
from hdl.spec.commands import Operand
from hdl.spec.formats import BFLOAT16, FIXED32
from hdl.vector.fixed_lane import FixedLane
from hdl.vector.fixed_reducer import FixedReducer
from hdl.vector.lane_control import LaneControl
from hdl.vector.vector_unit import VectorUnit

__all__ = ["FixedVectorUnit"]


class FixedVectorUnit(VectorUnit):
    """``VectorUnit`` with fixed lanes: ``i.data`` and ``o.data`` are words, or what
    ``accumulates`` says, ``y`` and immediates BF16.

    A row register holds a word, or the BF16 word of an inverse. A stage that multiplies takes
    either as a factor of 8 significant bits, one that adds as a word.

    Members
    -------
    accumulates: In(1), with ``i``: its data are accumulators.
    beyond: Out, words and reductions that are clipped in this cycle.
    """

    def _reducer(self) -> FixedReducer:
        return FixedReducer(self.config)

    def _lane(self) -> FixedLane:
        return FixedLane(self.config)

    def _row_registers(self, m: Module, reduce, advance) -> list:
        first, second = self._stored_registers(m, reduce, advance)
        return [Mux(self.control.row_maxima, Cat(self.maximum, Const(0, 1)), first), second]

    def _broadcast(self, m: Module, registers, operand, name: str) -> Signal:
        """What all lanes take: a word where the stage adds, else a factor."""
        adds = name == "add_word"
        own, factor, is_word = (Signal(bits, name=f"{name}_{part}") for bits, part in (
            (FIXED32.bits, "own"), (BFLOAT16.bits, "factor"), (1, "is_word")))
        with m.Switch(operand):
            for immediate in (Operand.IMM0, Operand.IMM1):
                with m.Case(immediate):
                    m.d.comb += factor.eq(getattr(self.control, immediate.name.lower()))
            for number, which in enumerate((Operand.R0, Operand.R1)):
                with m.Case(which):
                    register = Signal(FIXED32.bits + 1, name=f"{name}_{which.name.lower()}")
                    m.d.comb += [
                        register.eq(registers[number]), own.eq(register[:-1]),
                        factor.eq(register[-1 - BFLOAT16.bits:-1]), is_word.eq(~register[-1])]
        word = Signal(FIXED32.bits if adds else BFLOAT16.bits, name=name)
        unit = FixedEntry() if adds else FixedRound()
        m.submodules[f"{name}_unit"] = shared(unit)
        m.d.comb += [unit.value.eq(factor if adds else own),
                     word.eq(Mux(is_word, own, unit.result) if adds
                             else Mux(is_word, unit.result, factor))]
        return word

    def _control(self, m: Module, advance, registers) -> LaneControl:
        control = self._common_control(m, advance, registers)
        accumulates = Signal(reset_less=True)
        with m.If(advance):
            m.d.sync += accumulates.eq(self.accumulates)
        m.d.comb += control.accumulates.eq(accumulates)
        return control

    def _count(self, m: Module, leaves, tag, lanes, reduce) -> None:
        clipped = count_ones(lane.beyond & tag.keep[number] & leaves
                             for number, lane in enumerate(lanes))
        m.d.comb += self.beyond.eq(clipped + reduce.beyond)
