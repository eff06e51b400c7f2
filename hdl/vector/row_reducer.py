"""Row reductions: maximum and sum over the words of a row, across beats."""

from dataclasses import replace

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.float_adder import FloatAdder
from hdl.arith.float_max import FloatMax
from hdl.arith.float_multiplier import FloatMultiplier
from hdl.arith.float_word import flush, infinity, is_nan
from hdl.arith.inverse_sqrt import InverseSqrt
from hdl.arith.reciprocal import Reciprocal
from hdl.codec.bfloat16_round import bfloat16_round
from hdl.lib.leaf import shared
from hdl.spec.commands import Post
from hdl.spec.config import SOFTMAX_TRICKS, AcceleratorConfig, log2_exact
from hdl.spec.formats import BFLOAT16, BINARY32, LaneType
from hdl.vector.vector_beat import lane_words

__all__ = ["ReduceNode", "RowReducer"]

_POWER_LEAST = 64  # below 2^-64 POWER gives 1
_SHIFTED = (Post.INVERSE_SQRT, Post.RECIPROCAL_MEAN)
_AVERAGES = (Post.MEAN, *_SHIFTED)


class ReduceNode(wiring.Component):
    """``o`` = ``a`` + ``b`` in FP32, or the larger where ``is_max``; combinational.

    ``a``, ``b``: FP32 words; for a maximum of BF16 words their low halves are zero. ``first``: lane
    words, so that half of a BF16 addition is constant.
    """

    def __init__(self, lane: LaneType, first: bool = False):
        self.lane = lane
        self.first = first
        bits = lane.bits if first else 32
        super().__init__({"a": In(bits), "b": In(bits), "is_max": In(1), "o": Out(32)})

    @property
    def leaf_name(self) -> str:
        return f"reduce_{'first' if self.first else 'node'}_{self.lane.name}"

    def elaborate(self, platform):
        m = Module()
        adder = FloatAdder(BINARY32)
        larger = FloatMax(self.lane)
        m.submodules.adder = shared(adder)
        m.submodules.larger = shared(larger)
        below = 32 - self.lane.bits
        a, b = (Cat(Const(0, below), word) if self.first else word for word in (self.a, self.b))
        m.d.comb += [
            adder.a.eq(a), adder.b.eq(b), larger.a.eq(a[below:]), larger.b.eq(b[below:]),
            self.o.eq(Mux(self.is_max, Cat(Const(0, below), larger.o), adder.o)),
        ]
        return m


class RowReducer(wiring.Component):
    """Reduces each row of a stream of beats to one lane word; one beat per cycle, never stalls.

    Sum: words widened to FP32, adjacent pairs within a beat, then beats in order starting from the
    first one's sum; one RNE to the lane type at the end. Words not kept count as +0. Maximum: words
    not kept take no part, a NaN wins. ``post`` (``hdl.spec.commands.Post``) then applies.
    A row's result comes log2(L) + 2 cycles after its last beat, two more with a post that scales.

    Members
    -------
    valid, data, keep, row, last: In, a beat of lane words, NaN canonical; rows are contiguous, and
        the first beat is that which follows a ``last``.
    magnitudes: In(1), in a build that trains, with ``is_max``: words count without signs, and no
        row is reduced; the largest of each beat is ``beat``, Out, where ``beat_valid``, Out(1).
        In a build of scales rows are reduced as ever, of words without signs.
    is_max, magnitudes, post: In, stable while ``busy``. So are inverse_n, epsilon: In(32), FP32
        words, in a build of all functions, in which Post may be MEAN and INVERSE_SQRT.
    result_valid, result_row, result: Out, a row's reduction, for one cycle.
    busy: Out(1), beats or results are inside.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        row_bits = log2_exact(config.row_depth)
        super().__init__({
            "valid": In(1), "data": In(lane_words(config)), "keep": In(config.lanes),
            "row": In(row_bits), "last": In(1),
            "is_max": In(1), "post": In(3),
            **({"inverse_n": In(32), "epsilon": In(32)} if self._whole else {}),
            **({"magnitudes": In(1), "beat_valid": Out(1), "beat": Out(config.lane.bits - 1)}
               if config.trains else {"magnitudes": In(1)} if config.scales else {}),
            "result_valid": Out(1), "result_row": Out(row_bits), "result": Out(config.lane.bits),
            "busy": Out(1),
        })

    @property
    def _whole(self) -> bool:
        return self.config.infers

    def _is(self, *posts: Post):
        """Whether ``post`` is one of those ``posts`` that the build has."""
        own = [post for post in posts if self.config.scales or post is not Post.RECIPROCAL_MEAN]
        found = self.post == own[0]
        for post in own[1:]:
            found = found | (self.post == post)
        return found

    def elaborate(self, platform):
        m = Module()
        tree = self._tree(m)
        valid, row, last, tag_busy = self._delay(m, log2_exact(self.config.lanes))

        if self.config.trains:
            m.d.comb += [self.beat_valid.eq(valid & self.magnitudes),
                         self.beat.eq(tree[32 - self.config.lane.bits:31])]
            valid = valid & ~self.magnitudes

        total = Signal(32, reset_less=True)
        first = Signal(init=1)
        ended = Signal()
        ended_row = Signal.like(self.row, reset_less=True)
        across = ReduceNode(self.config.lane)
        m.submodules.across = shared(across)
        m.d.comb += [across.a.eq(total), across.b.eq(tree), across.is_max.eq(self.is_max)]
        m.d.sync += ended.eq(valid & last)
        with m.If(valid):
            m.d.sync += [
                total.eq(Mux(first, tree, across.o)),
                first.eq(last),
                ended_row.eq(row),
            ]

        if self._whole:
            total, ended, ended_row, scaling = self._scale(m, total, ended, ended_row)
        else:
            scaling = Const(0, 1)
        m.d.sync += [
            self.result_valid.eq(ended),
            self.result_row.eq(ended_row),
            self.result.eq(self._finish(m, total)),
        ]
        m.d.comb += self.busy.eq(tag_busy | scaling | ended | self.result_valid)
        return m

    def _scale(self, m, total, ended, ended_row):
        """What ``_finish`` takes: the total itself, or for MEAN and INVERSE_SQRT the product and
        sum, with a register after each; its valid and row; whether any is in flight."""
        multiplier, adder = FloatMultiplier(BINARY32), FloatAdder(BINARY32)
        m.submodules.multiplier = shared(multiplier)
        m.submodules.post_adder = shared(adder)
        product, sum_ = Signal(32, reset_less=True), Signal(32, reset_less=True)
        p_ended, s_ended = Signal(), Signal()
        p_row, s_row = (Signal.like(self.row, name=name, reset_less=True)
                        for name in ("p_row", "s_row"))
        averages = Signal()
        finished = Signal(32)
        m.d.comb += [
            averages.eq(self._is(*_AVERAGES)),
            multiplier.a.eq(total), multiplier.b.eq(self.inverse_n),
            adder.a.eq(product), adder.b.eq(self.epsilon),
            finished.eq(Mux(averages, sum_, total)),
        ]
        m.d.sync += [
            p_ended.eq(ended & averages), s_ended.eq(p_ended), p_row.eq(ended_row),
            s_row.eq(p_row), product.eq(multiplier.o),
            sum_.eq(Mux(self._is(*_SHIFTED), adder.o, product)),
        ]
        return (finished, Mux(averages, s_ended, ended), Mux(averages, s_row, ended_row),
                ended | p_ended)

    def _tree(self, m):
        """The beat's reduction, registered at each of log2(L) levels."""
        lane = self.config.lane
        # Minus infinity never wins against a word that takes part.
        absent = Signal(lane.bits)
        m.d.comb += absent.eq(Mux(self.is_max, infinity(lane) | 1 << lane.bits - 1, 0))
        words = []
        for number in range(self.config.lanes):
            word = Signal(lane.bits, name=f"word_{number}")
            present = flush(lane, self.data[number])
            if self.config.trains or self.config.scales:
                present = Cat(present[:-1], present[-1] & ~self.magnitudes)
            m.d.comb += word.eq(Mux(self.keep[number], present, absent))
            words.append(word)
        level = 0
        while len(words) > 1:
            level += 1
            sums = []
            for number in range(len(words) // 2):
                node = ReduceNode(lane, first=level == 1)
                m.submodules[f"node_{level}_{number}"] = shared(node)
                sum_ = Signal(32, name=f"sum_{level}_{number}", reset_less=True)
                m.d.comb += [
                    node.a.eq(words[2 * number]),
                    node.b.eq(words[2 * number + 1]),
                    node.is_max.eq(self.is_max),
                ]
                m.d.sync += sum_.eq(node.o)
                sums.append(sum_)
            words = sums
        return words[0]

    def _delay(self, m, levels):
        """``valid``, ``row``, ``last`` with the tree's result, and whether any is in flight."""
        valid, row, last = self.valid, self.row, self.last
        busy = Const(0, 1)
        for level in range(1, levels + 1):
            next_valid = Signal(name=f"valid_{level}")
            next_row = Signal.like(self.row, name=f"row_{level}", reset_less=True)
            next_last = Signal(name=f"last_{level}", reset_less=True)
            m.d.sync += [next_valid.eq(valid), next_row.eq(row), next_last.eq(last)]
            valid, row, last = next_valid, next_row, next_last
            busy = busy | valid
        return valid, row, last, busy

    def _finish(self, m, total):
        """Lane word of an FP32 reduction, its reciprocal or inverse square root."""
        lane = self.config.lane
        reciprocal = Reciprocal(self.config)
        m.submodules.inverse = shared(reciprocal)
        if self._whole:
            inverse_sqrt = InverseSqrt(BINARY32, lane)
            m.submodules.inverse_sqrt = shared(inverse_sqrt)
            value = Signal(32)
            m.d.comb += [
                inverse_sqrt.value.eq(total),
                value.eq(Mux(self.post == Post.INVERSE_SQRT, inverse_sqrt.result, total)),
            ]
            total = value
        rounded = Signal(lane.bits)
        m.d.comb += [
            rounded.eq(bfloat16_round(m, total, "total") if lane is BFLOAT16 else total),
            reciprocal.value.eq(rounded),
        ]
        result = Mux(self.post == Post.RECIPROCAL, reciprocal.result, rounded)
        if self.config.scales:
            inverse = reciprocal
            if self.config.softmax in SOFTMAX_TRICKS:
                # Elsewhere the mode's reciprocal is the table.
                inverse = Reciprocal(replace(self.config, softmax="pwl"))
                m.submodules.inverse_by_table = shared(inverse)
                m.d.comb += inverse.value.eq(rounded)
            by_table = (self.post == Post.INVERSE) | (self.post == Post.RECIPROCAL_MEAN)
            result = Mux(by_table, inverse.result, result)
        if not self.config.trains:
            return result
        return Mux(self.post == Post.POWER, self._power(m, rounded), result)

    def _power(self, m, word):
        """The power of two that brings ``word`` into [1/2, 1), as ``Post`` says."""
        lane = self.config.lane
        exponent = word[lane.fraction_bits:-1]
        field, found = Signal(lane.exponent_bits), Signal(lane.bits)
        with m.If(is_nan(lane, word)):
            m.d.comb += found.eq(lane.nan)
        with m.Else():
            m.d.comb += found.eq(Cat(Const(0, lane.fraction_bits), field))
        with m.If(exponent < lane.bias - _POWER_LEAST):
            m.d.comb += field.eq(lane.bias)
        with m.Elif(exponent < 2 * lane.bias - 1):
            m.d.comb += field.eq(2 * lane.bias - 1 - exponent)
        return found
