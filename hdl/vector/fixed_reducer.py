"""Row reductions of words of integers: exact, whatever their order."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.fixed_codec import FixedRound
from hdl.arith.fixed_word import clip, factor, held, place
from hdl.arith.reciprocal import Reciprocal
from hdl.lib.leaf import shared
from hdl.spec.commands import Post
from hdl.spec.config import COUNT_BITS, AcceleratorConfig, log2_exact
from hdl.spec.formats import BFLOAT16, BINARY32, FIXED32
from hdl.vector.vector_beat import delayed, lane_words

__all__ = ["FixedReduceNode", "FixedReducer"]

_FINE = 32
_MEAN_BITS = 49
"""Of a mean in units of 2^-32: a bit more than a word reaches, so that what is clipped is told."""
_LIFT = 26
_TOTAL = FIXED32.bits + COUNT_BITS


class FixedReduceNode(wiring.Component):
    """``o`` = ``a`` + ``b``, or the larger where ``is_max``, of signed words of ``bits``; a bit
    more, or as many as ``most`` allows; combinational."""

    def __init__(self, bits: int, most: int = _TOTAL):
        self.bits = bits
        super().__init__({"a": In(bits), "b": In(bits), "is_max": In(1),
                          "o": Out(min(bits + 1, most))})

    @property
    def leaf_name(self) -> str:
        return f"reduce_fixed_{self.bits}"

    def elaborate(self, platform):
        m = Module()
        a, b = self.a.as_signed(), self.b.as_signed()
        total, larger = (Signal.like(self.o, name=name) for name in ("total", "larger"))
        m.d.comb += [total.eq(a + b), larger.eq(Mux(a < b, b, a)),
                     self.o.eq(Mux(self.is_max, larger, total))]
        return m


class FixedReducer(wiring.Component):
    """``RowReducer`` of words: as many cycles, with no rounding before the post.

    A result is a word, or where its post is an inverse a BF16 word, which its highest bit tells;
    that then is above 16 zeros.

    Members
    -------
    valid, data, keep, row, last: In, a beat of words; rows are contiguous.
    is_max, magnitudes, post: In, stable while ``busy``. So are inverse_n, epsilon: In(32), FP32.
    result_valid, result_row, result: Out, a row's reduction, for one cycle. beyond: Out(1), with
        it: it is clipped.
    busy: Out(1), beats or results are inside.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        row_bits = log2_exact(config.row_depth)
        super().__init__({
            "valid": In(1), "data": In(lane_words(config)), "keep": In(config.lanes),
            "row": In(row_bits), "last": In(1), "is_max": In(1), "magnitudes": In(1),
            "post": In(3), "inverse_n": In(32), "epsilon": In(32),
            "result_valid": Out(1), "result_row": Out(row_bits),
            "result": Out(FIXED32.bits + 1), "beyond": Out(1), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        tree = self._tree(m)
        valid, row, last, tag_busy = delayed(m, self, log2_exact(self.config.lanes))
        total = Signal(_TOTAL, reset_less=True)
        first = Signal(init=1)
        ended = Signal()
        ended_row = Signal.like(self.row, reset_less=True)
        wide = Signal(_TOTAL)
        across = FixedReduceNode(_TOTAL)
        m.submodules.across = shared(across)
        m.d.comb += [wide.eq(tree.as_signed()), across.a.eq(total), across.b.eq(wide),
                     across.is_max.eq(self.is_max)]
        m.d.sync += ended.eq(valid & last)
        with m.If(valid):
            m.d.sync += [total.eq(Mux(first, wide, across.o)), first.eq(last), ended_row.eq(row)]
        mean, ended, ended_row, scaling = self._mean(m, total, ended, ended_row)
        result, beyond = self._finish(m, total, mean)
        m.d.sync += [
            self.result_valid.eq(ended), self.result_row.eq(ended_row), self.result.eq(result),
            self.beyond.eq(ended & beyond),
        ]
        m.d.comb += self.busy.eq(tag_busy | scaling | ended | self.result_valid)
        return m

    def _tree(self, m: Module):
        """The beat's reduction, registered at each of log2(L) levels, each a bit wider."""
        bits = FIXED32.bits + 1
        absent = Mux(self.is_max, Const(1 << bits - 1, bits), 0)
        words = []
        for number in range(self.config.lanes):
            word = Signal(bits, name=f"word_{number}")
            own = self.data[number].as_signed()
            m.d.comb += word.eq(Mux(self.keep[number],
                                    Mux(self.magnitudes & own[-1], -own, own), absent))
            words.append(word)
        level = 0
        while len(words) > 1:
            level += 1
            sums = []
            for number in range(len(words) // 2):
                node = FixedReduceNode(len(words[0]))
                m.submodules[f"node_{level}_{number}"] = shared(node)
                sum_ = Signal(len(node.o), name=f"sum_{level}_{number}", reset_less=True)
                m.d.comb += [node.a.eq(words[2 * number]), node.b.eq(words[2 * number + 1]),
                             node.is_max.eq(self.is_max)]
                m.d.sync += sum_.eq(node.o)
                sums.append(sum_)
            words = sums
        return words[0]

    def _mean(self, m: Module, total, ended, ended_row) -> tuple:
        """The total times ``inverse_n``, and ``epsilon`` more for an inverse, a register after
        each; what is valid then, its row, and whether any is in flight."""
        averages, shifted = Signal(), Signal()
        own = factor(m, BINARY32, self.inverse_n, "factor")
        more = factor(m, BINARY32, self.epsilon, "more")
        point = BINARY32.bias + BINARY32.fraction_bits - _FINE
        exact = Signal(_TOTAL + len(own.significand))
        m.d.comb += [
            averages.eq((self.post == Post.MEAN) | (self.post == Post.RECIPROCAL_MEAN)),
            shifted.eq(self.post == Post.RECIPROCAL_MEAN),
            exact.eq(total.as_signed() * own.significand),
        ]
        own_right = held(m, _LIFT + point + FIXED32.fraction_bits - own.exponent, 7, "mean_right")
        more_right = held(m, _LIFT + point - more.exponent, 6, "addend_right")
        mean = place(m, exact, own_right, _LIFT, _MEAN_BITS, "mean", negate=own.negative, odd=True)
        addend = place(m, Cat(more.significand, Const(0, 1)), more_right, _LIFT, _MEAN_BITS,
                       "addend", negate=more.negative)
        product = Signal(_MEAN_BITS, reset_less=True)
        sum_ = Signal(_MEAN_BITS + 1, reset_less=True)
        p_ended, s_ended = Signal(), Signal()
        p_row, s_row = (Signal.like(self.row, name=name, reset_less=True)
                        for name in ("p_row", "s_row"))
        m.d.sync += [
            p_ended.eq(ended & averages), s_ended.eq(p_ended), p_row.eq(ended_row),
            s_row.eq(p_row), product.eq(mean.word),
            sum_.eq(product.as_signed() + Mux(shifted, addend.word, 0).as_signed()),
        ]
        return (sum_, Mux(averages, s_ended, ended), Mux(averages, s_row, ended_row),
                ended | p_ended)

    def _finish(self, m: Module, total, mean) -> tuple:
        """What a register takes, and whether it is clipped."""
        fine = _FINE - FIXED32.fraction_bits
        plain = clip(m, total, FIXED32.bits, "plain")
        near = Signal(_MEAN_BITS + 2 - fine)
        m.d.comb += near.eq(mean[fine:].as_signed()
                            + (mean[fine - 1] & (mean[:fine - 1].any() | mean[fine])))
        middle = clip(m, near, FIXED32.bits, "middle")
        number = Signal(_TOTAL + fine)
        rounded, inverse = FixedRound(len(number), _FINE), Reciprocal(self.config)
        m.submodules.rounded = shared(rounded)
        m.submodules.inverse = shared(inverse)
        averages, inverts = Signal(), Signal()
        m.d.comb += [
            averages.eq((self.post == Post.MEAN) | (self.post == Post.RECIPROCAL_MEAN)),
            inverts.eq((self.post == Post.INVERSE) | (self.post == Post.RECIPROCAL_MEAN)),
            number.eq(Mux(averages, mean.as_signed(), Cat(Const(0, fine), total).as_signed())),
            rounded.value.eq(number), inverse.value.eq(rounded.result),
        ]
        word = Mux(averages, middle.word, plain.word)
        beyond = ~inverts & Mux(averages, middle.beyond, plain.beyond)
        return (Mux(inverts, Cat(Const(0, FIXED32.bits - BFLOAT16.bits), inverse.result,
                                 Const(1, 1)), Cat(word, Const(0, 1))), beyond)
