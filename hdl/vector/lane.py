"""One lane of the vector unit."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.activation import Activation
from hdl.arith.cut import holder
from hdl.arith.exp import Exp
from hdl.arith.float_adder import FloatAdder
from hdl.arith.float_multiplier import FloatMultiplier
from hdl.arith.float_word import canonical
from hdl.arith.inverse_sqrt import InverseSqrt
from hdl.arith.reciprocal import Reciprocal
from hdl.lib.leaf import shared, with_latency
from hdl.spec.activations import activations
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import lane_cycles
from hdl.vector.lane_control import LaneControl

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Four stages on one lane word: × operand, ± operand, function, × operand with ReLU.

    A register stands before the first stage, and each stage has S = ``config.lane_latency`` of
    them, one after it and the others within: a word of ``data`` leaves as ``o`` ``latency`` =
    1 + 4·S cycles with ``enable`` later. Any NaN becomes the canonical one on entry. A stage
    that is off passes its word on, even a subnormal; one that acts takes a subnormal for a zero
    of its sign. Each × ± rounds once (``FloatMultiplier``, ``FloatAdder``).

    Members
    -------
    control: In(``LaneControl``).
    data, y: In, lane words that enter together; ``y`` follows its ``data`` to whichever stage takes
        it.
    o: Out, a lane word.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.cuts = config.lane_latency - 1
        word = config.lane.bits
        super().__init__({"control": In(LaneControl(config)), "data": In(word), "y": In(word),
                          "o": Out(word)})

    @property
    def _whole(self) -> bool:
        return self.config.infers

    @property
    def leaf_name(self) -> str:
        name = f"lane_{Exp.name_for(self.config)}_{Reciprocal.name_for(self.config)}"
        if self._whole:
            name += "_training" if self.config.trains else "_functions"
        return with_latency(name, self.config.lane_latency)

    @property
    def latency(self) -> int:
        """Cycles with ``enable`` from ``data`` to ``o``."""
        return lane_cycles(self.config)

    def elaborate(self, platform):
        m = Module()
        lane, control = self.config.lane, self.control
        units = self._units(m)
        hold = holder(m, control.enable if self.cuts else None, self.cuts)
        e_data, m_data, a_data, f_data, s_data = (
            Signal(lane.bits, name=f"{stage}_data", reset_less=True) for stage in "emafs")
        e_y, m_y, a_y, f_y = (
            Signal(lane.bits, name=f"{stage}_y", reset_less=True) for stage in "emaf")
        # In the stage's last cycle. The shorter functions begin there: what passes is held anyway.
        e_past, m_past, a_past, f_past, e_y_past, m_y_past, a_y_past = (
            hold(value, value.name) for value in (e_data, m_data, a_data, f_data, e_y, m_y, a_y))
        multiplier, adder, scaler = units["multiplier"], units["adder"], units["scaler"]
        functioned = self._functioned(m, units, a_data, a_past)
        exponent = slice(lane.fraction_bits, lane.bits - 1)
        scaled = Signal(lane.bits)
        m.d.comb += [
            multiplier.a.eq(e_data),
            multiplier.b.eq(self._operand(control.multiply, e_y, e_data)),
            adder.a.eq(m_data),
            adder.b.eq(self._operand(control.add, m_y)),
            adder.subtract.eq(control.subtract),
            scaler.a.eq(f_data),
            scaler.b.eq(self._operand(control.scale, f_y, f_data)),
            scaled.eq(Mux(control.scale.on, scaler.o, f_past)),
            self.o.eq(s_data),
        ]
        with m.If(control.enable):
            m.d.sync += [
                e_data.eq(canonical(lane, self.data)),
                e_y.eq(canonical(lane, self.y)),
                m_data.eq(Mux(control.multiply.on, multiplier.o, e_past)),
                m_y.eq(e_y_past),
                a_data.eq(Mux(control.add.on, adder.o, m_past)),
                a_y.eq(m_y_past),
                f_data.eq(functioned),
                f_y.eq(a_y_past),
                # The canonical NaN is positive: ReLU lets it through.
                s_data.eq(Mux(control.relu & (scaled[-1] | ~scaled[exponent].any()), 0, scaled)),
            ]
        return m

    def _units(self, m: Module) -> dict[str, wiring.Component]:
        """What computes, by name."""
        lane = self.config.lane
        cuts = self.cuts
        units = {"multiplier": FloatMultiplier(lane, cuts), "adder": FloatAdder(lane, cuts),
                 "exp": Exp(self.config, cuts if self.config.softmax == "pwl" else 0),
                 "reciprocal": Reciprocal(self.config), "scaler": FloatMultiplier(lane, cuts)}
        if self._whole:
            units |= {"activation": Activation(lane, activations(self.config), cuts),
                      "inverse_sqrt": InverseSqrt(lane)}
        for name, unit in units.items():
            m.submodules[name] = shared(unit)
            if getattr(unit, "cuts", 0):
                m.d.comb += unit.enable.eq(self.control.enable)
        return units

    def _functioned(self, m: Module, units, word, past) -> Signal:
        """Stage 3: ``word`` enters it, ``past`` is the same in its last cycle."""
        control, exp, reciprocal = self.control, units["exp"], units["reciprocal"]
        functioned = Signal(len(word))
        m.d.comb += [
            exp.value.eq(word if exp.cuts else past),
            reciprocal.value.eq(past),
            functioned.eq(past),
        ]
        with m.Switch(control.function):
            with m.Case(Function.EXP):
                m.d.comb += functioned.eq(Mux(control.masked, 0, exp.result))
            with m.Case(Function.RECIPROCAL):
                m.d.comb += functioned.eq(reciprocal.result)
            if self._whole:
                activation, inverse_sqrt = units["activation"], units["inverse_sqrt"]
                m.d.comb += [
                    activation.value.eq(word),
                    activation.function.eq(control.function),
                    inverse_sqrt.value.eq(past),
                ]
                with m.Case(Function.INVERSE_SQRT):
                    m.d.comb += functioned.eq(inverse_sqrt.result)
                with m.Case(*activations(self.config)):
                    m.d.comb += functioned.eq(activation.result)
        return functioned

    def _operand(self, stage, y, own=None):
        """What a stage takes: y, the word of all lanes or, where it can square, its ``own``."""
        word = Mux(stage.y, y, stage.word)
        return Mux(stage.self, own, word) if own is not None and self._whole else word
