"""One lane of the vector unit."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.activation import Activation
from hdl.arith.cut import holder
from hdl.arith.exp import Exp
from hdl.arith.float_add import FloatAdder
from hdl.arith.float_multiply import FloatMultiplier
from hdl.arith.float_word import canonical
from hdl.arith.inverse_sqrt import InverseSqrt
from hdl.arith.reciprocal import Reciprocal
from hdl.lib.leaf import shared, with_latency
from hdl.spec.activations import ACTIVATIONS
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import lane_cycles

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Four stages on one lane word: × operand, ± operand, function, × operand with ReLU.

    A register stands before the first stage, and each stage has S = ``config.lane_latency`` of
    them, one behind it and at S = 2 one within: a word of ``data`` leaves as ``o`` ``latency`` =
    1 + 4·S cycles with ``enable`` later. Any NaN becomes the canonical one on entry. A stage
    that is off passes its word on, even a subnormal; one that acts takes a subnormal for a zero
    of its sign. Each × ± rounds once (``FloatMultiplier``, ``FloatAdder``).

    Ports
    -----
    enable: the pipeline moves.
    data, y: lane words that enter together; ``y`` follows its ``data`` to whichever stage takes it.
    multiply_on, add_on, scale_on: stage 1, 2, 4 acts; multiply_y, add_y, scale_y: on ``y``, else on
    the word beside: multiply_word, add_word, scale_word, valid 1, 1 + S and 1 + 3·S enabled cycles
    after ``data``. multiply_self, scale_self, in a build of all functions: by the word itself
    instead. subtract: stage 2 computes word − operand. function: ``Function``. relu: NaN
    passes, negative words, subnormals and −0 give +0. These are still while any word is inside.
    masked: 3·S enabled cycles after ``data``: exp of this word gives +0.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.cut = config.lane_latency == 2
        word = config.lane.bits
        super().__init__({
            "enable": In(1), "data": In(word), "y": In(word),
            "multiply_on": In(1), "multiply_y": In(1), "multiply_word": In(word),
            "add_on": In(1), "add_y": In(1), "add_word": In(word), "subtract": In(1),
            "function": In(4), "masked": In(1),
            "scale_on": In(1), "scale_y": In(1), "scale_word": In(word), "relu": In(1),
            **({"multiply_self": In(1), "scale_self": In(1)} if self._whole else {}),
            "o": Out(word),
        })

    @property
    def _whole(self) -> bool:
        return self.config.functions == "all"

    @property
    def leaf_name(self) -> str:
        name = f"lane_{Exp.name_for(self.config)}_{Reciprocal.name_for(self.config)}"
        if self._whole:
            name += "_functions"
        return with_latency(name, self.config.lane_latency)

    @property
    def latency(self) -> int:
        """Cycles with ``enable`` from ``data`` to ``o``."""
        return lane_cycles(self.config)

    def elaborate(self, platform):
        m = Module()
        word = self.config.lane.bits
        hold = holder(m, self)
        multiplier = FloatMultiplier(self.config.lane, self.cut)
        adder = FloatAdder(self.config.lane, self.cut)
        exp = Exp(self.config, self.cut and self.config.softmax == "pwl")
        reciprocal = Reciprocal(self.config)
        scaler = FloatMultiplier(self.config.lane, self.cut)
        units = {"multiplier": multiplier, "adder": adder, "exp": exp, "reciprocal": reciprocal,
                 "scaler": scaler}
        if self._whole:
            units |= {"activation": Activation(self.config.lane, cut=self.cut),
                      "inverse_sqrt": InverseSqrt(self.config.lane)}
        for name, unit in units.items():
            m.submodules[name] = shared(unit)
            if getattr(unit, "cut", False):
                m.d.comb += unit.enable.eq(self.enable)

        e_data, m_data, a_data, f_data, s_data = (
            Signal(word, name=f"{stage}_data", reset_less=True) for stage in "emafs")
        e_y, m_y, a_y, f_y = (
            Signal(word, name=f"{stage}_y", reset_less=True) for stage in "emaf")
        # In the stage's second half. The shorter functions begin there: what passes is held anyway.
        e_past, m_past, a_past, f_past, e_y_past, m_y_past, a_y_past = (
            hold(value, value.name) for value in (e_data, m_data, a_data, f_data, e_y, m_y, a_y))
        functioned = Signal(word)
        exponent = slice(self.config.lane.fraction_bits, word - 1)
        scaled = Signal(word)
        m.d.comb += [
            multiplier.a.eq(e_data),
            multiplier.b.eq(self._operand("multiply", e_y, e_data)),
            adder.a.eq(m_data),
            adder.b.eq(Mux(self.add_y, m_y, self.add_word)),
            adder.subtract.eq(self.subtract),
            exp.value.eq(a_data if exp.cut else a_past),
            reciprocal.value.eq(a_past),
            scaler.a.eq(f_data),
            scaler.b.eq(self._operand("scale", f_y, f_data)),
            functioned.eq(a_past),
            scaled.eq(Mux(self.scale_on, scaler.o, f_past)),
            self.o.eq(s_data),
        ]
        with m.Switch(self.function):
            with m.Case(Function.EXP):
                m.d.comb += functioned.eq(Mux(self.masked, 0, exp.result))
            with m.Case(Function.RECIPROCAL):
                m.d.comb += functioned.eq(reciprocal.result)
            if self._whole:
                activation, inverse_sqrt = units["activation"], units["inverse_sqrt"]
                m.d.comb += [
                    activation.value.eq(a_data),
                    activation.function.eq(self.function),
                    inverse_sqrt.value.eq(a_past),
                ]
                with m.Case(Function.INVERSE_SQRT):
                    m.d.comb += functioned.eq(inverse_sqrt.result)
                with m.Case(*ACTIVATIONS):
                    m.d.comb += functioned.eq(activation.result)
        with m.If(self.enable):
            m.d.sync += [
                e_data.eq(canonical(self.config.lane, self.data)),
                e_y.eq(canonical(self.config.lane, self.y)),
                m_data.eq(Mux(self.multiply_on, multiplier.o, e_past)),
                m_y.eq(e_y_past),
                a_data.eq(Mux(self.add_on, adder.o, m_past)),
                a_y.eq(m_y_past),
                f_data.eq(functioned),
                f_y.eq(a_y_past),
                # The canonical NaN is positive: ReLU lets it through.
                s_data.eq(Mux(self.relu & (scaled[-1] | ~scaled[exponent].any()), 0, scaled)),
            ]
        return m

    def _operand(self, stage, y, own):
        """What stage ``multiply`` or ``scale`` multiplies by: y, the word ``own`` itself or that of
        all lanes."""
        word = Mux(getattr(self, f"{stage}_y"), y, getattr(self, f"{stage}_word"))
        return Mux(getattr(self, f"{stage}_self"), own, word) if self._whole else word
