"""One lane of a vector unit of integers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import holder
from hdl.arith.fixed_codec import FixedEntry, FixedRound
from hdl.arith.fixed_multiplier import FixedMultiplier
from hdl.arith.fixed_word import WORD_POINT, clip
from hdl.lib.leaf import shared, with_latency
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, FIXED32
from hdl.spec.timing import lane_cycles
from hdl.vector.lane_control import LaneControl

__all__ = ["FixedLane"]


class FixedLane(wiring.Component):
    """``Lane`` on words of integers that saturate: × operand, ± operand, a register where others
    have functions, × operand with ReLU. Its latency is that of ``Lane``.

    Members
    -------
    control: In(``LaneControl``).
    data: In, a word, or where ``control.accumulates`` says so an accumulator. y: In, a BF16 word
        that follows its ``data`` to whichever stage takes it.
    o: Out, a word. beyond: Out(1), with it: a stage clipped it.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.cuts = config.lane_latency - 1
        super().__init__({
            "control": In(LaneControl(config)), "data": In(FIXED32.bits), "y": In(BFLOAT16.bits),
            "o": Out(FIXED32.bits), "beyond": Out(1)})

    @property
    def leaf_name(self) -> str:
        return with_latency("lane_fixed", self.config.lane_latency)

    @property
    def latency(self) -> int:
        """Cycles with ``enable`` from ``data`` to ``o``."""
        return lane_cycles(self.config)

    def elaborate(self, platform):
        m = Module()
        control = self.control
        hold = holder(m, control.enable if self.cuts else None, self.cuts)
        words, operands, flags = (
            [Signal(bits, name=f"{stage}_{name}", reset_less=True) for stage in "emafs"]
            for bits, name in ((FIXED32.bits, "data"), (BFLOAT16.bits, "y"), (1, "beyond")))
        multiplied, m_beyond = self._multiplied(m, hold, words[0], operands[0])
        added, a_beyond = self._added(m, words[1], operands[1])
        scaler = self._multiplier(m, "scaler", control.scale, words[3], operands[3])
        scaled, s_beyond = Signal(FIXED32.bits), Signal()
        m.d.comb += [
            scaled.eq(Mux(control.scale.on, scaler.o, hold(words[3], "f_data"))),
            s_beyond.eq(hold(flags[3], "f_beyond") | (control.scale.on & scaler.beyond)),
            self.o.eq(words[4]), self.beyond.eq(flags[4]),
        ]
        with m.If(control.enable):
            m.d.sync += [
                words[0].eq(self.data), operands[0].eq(self.y),
                words[1].eq(multiplied), operands[1].eq(hold(operands[0], "e_y")),
                flags[1].eq(m_beyond),
                words[2].eq(hold(added, "added")), operands[2].eq(hold(operands[1], "m_y")),
                flags[2].eq(hold(flags[1] | a_beyond, "a_beyond")),
                words[3].eq(hold(words[2], "a_data")), operands[3].eq(hold(operands[2], "a_y")),
                flags[3].eq(hold(flags[2], "f_flag")),
                words[4].eq(Mux(control.relu & scaled[-1], 0, scaled)), flags[4].eq(s_beyond),
            ]
        return m

    def _multiplier(self, m: Module, name: str, stage, word, y) -> FixedMultiplier:
        """Of a stage that can square."""
        multiplier, own = FixedMultiplier(self.cuts), FixedRound()
        m.submodules[name] = shared(multiplier)
        m.submodules[f"{name}_own"] = shared(own)
        m.d.comb += [
            own.value.eq(word), multiplier.x.eq(word),
            multiplier.y.eq(Mux(stage.self, own.result, Mux(stage.y, y, stage.word))),
        ]
        if self.cuts:
            m.d.comb += multiplier.enable.eq(self.control.enable)
        return multiplier

    def _multiplied(self, m: Module, hold, word, y) -> tuple:
        """Stage 1: a word of an accumulator or of a word."""
        control, stage = self.control, self.control.multiply
        multiplier = self._multiplier(m, "multiplier", stage, word, y)
        own = Cat(control.accumulates & stage.self, Const(0, 1))
        m.d.comb += multiplier.scale.eq(control.accumulates + own)
        widened = clip(m, Cat(Const(0, WORD_POINT), word), FIXED32.bits, "widened")
        passed, beyond = Signal(FIXED32.bits), Signal()
        m.d.comb += [passed.eq(Mux(control.accumulates, widened.word, word)),
                     beyond.eq(control.accumulates & widened.beyond)]
        return (Mux(stage.on, multiplier.o, hold(passed, "passed")),
                Mux(stage.on, multiplier.beyond, hold(beyond, "passed_beyond")))

    def _added(self, m: Module, word, y) -> tuple:
        """Stage 2: ± a word."""
        control, stage = self.control, self.control.add
        entry = FixedEntry()
        m.submodules.entry = shared(entry)
        addend = Signal(FIXED32.bits)
        total = Signal(FIXED32.bits + 1)
        m.d.comb += [
            entry.value.eq(y),
            addend.eq(Mux(stage.y, entry.result, stage.word)
                      ^ control.subtract.replicate(FIXED32.bits)),
            total.eq(word.as_signed() + addend.as_signed() + control.subtract),
        ]
        found = clip(m, total, FIXED32.bits, "total")
        return Mux(stage.on, found.word, word), stage.on & found.beyond
