"""Row reductions: maximum and sum over the words of a row, across beats."""

from dataclasses import replace

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.float_adder import FloatAdder
from hdl.arith.float_multiplier import FloatMultiplier
from hdl.arith.float_word import flush, infinity, is_nan
from hdl.arith.inverse_sqrt import InverseSqrt
from hdl.arith.reciprocal import Reciprocal
from hdl.codec.bfloat16_round import bfloat16_round
from hdl.lib.leaf import shared
from hdl.spec.commands import Post
from hdl.spec.config import SOFTMAX_TRICKS, AcceleratorConfig, log2_exact
from hdl.spec.formats import BFLOAT16, BINARY32
from hdl.spec.timing import across_cycles, result_cycles, tree_cycles
from hdl.vector.reduce_node import ReduceNode
from hdl.vector.vector_beat import delayed, lane_words

__all__ = ["RowReducer"]

_POWER_LEAST = 64  # below 2^-64 POWER gives 1
_SHIFTED = (Post.INVERSE_SQRT, Post.RECIPROCAL_MEAN)
_AVERAGES = (Post.MEAN, *_SHIFTED)


class RowReducer(wiring.Component):
    """Reduces each row of a stream of beats to one lane word; one beat per cycle, never stalls.

    Sum: words widened to FP32, adjacent pairs within a beat, then beats in order starting from the
    first one's sum; one RNE to the lane type at the end. Words not kept count as +0. Maximum: words
    not kept take no part, a NaN wins. ``post`` (``hdl.spec.commands.Post``) then applies.
    With W = ``config.sum_ways`` an addition takes W cycles. Of W > 1 sums beat b joins number
    b mod W; at the end adjacent pairs of them are added, those that no beat joined as +0.
    A row's result comes ``reduce_cycles`` (``hdl.spec.timing``) after its last beat.

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
        valid, row, last, tag_busy = delayed(m, self, tree_cycles(self.config))

        if self.config.trains:
            m.d.comb += [self.beat_valid.eq(valid & self.magnitudes),
                         self.beat.eq(tree[32 - self.config.lane.bits:31])]
            valid = valid & ~self.magnitudes

        across = self._across if self.config.sum_ways == 1 else self._across_ways
        total, ended, ended_row, adding = across(m, tree, valid, row, last)
        if self._whole:
            total, ended, ended_row, scaling = self._scale(m, total, ended, ended_row)
        else:
            scaling = Const(0, 1)
        rounding = Const(0, 0)
        result, later = self._finish(m, total)
        if later:
            rounding = ended
            (ended,), (ended_row,) = (self._later(m, ended, 1, "rounded_ended"),
                                      self._later(m, ended_row, 1, "rounded_row"))
        m.d.sync += [
            self.result_valid.eq(ended),
            self.result_row.eq(ended_row),
            self.result.eq(result),
        ]
        busy = tag_busy | scaling | ended | self.result_valid
        m.d.comb += self.busy.eq(busy if self.config.sum_ways == 1 else busy | adding | rounding)
        return m

    def _across(self, m, tree, valid, row, last):
        """The reduction over a row's beats, whether it is there, its row; what is in flight."""
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
        return total, ended, ended_row, Const(0, 0)

    def _across_ways(self, m, tree, valid, row, last):
        """The same by partial sums that the beats join in turn. Rows follow each other in any
        cycle: the sums of one are read before a beat of the next can have joined them."""
        lane, ways = self.config.lane, self.config.sum_ways
        lowest = (infinity(lane) | 1 << lane.bits - 1) << 32 - lane.bits  # every word wins
        way = Signal(range(ways))
        fresh = Signal(init=1)  # no sum has two beats yet
        most = Signal(range(ways))
        totals = [Signal(32, name=f"total_{number}", reset_less=True) for number in range(ways)]
        across = ReduceNode(lane, cuts=ways - 1)
        m.submodules.across = shared(across)
        m.d.comb += [
            # -0 added to a word is that word, be it -0.
            across.a.eq(Mux(fresh, Mux(self.is_max, lowest, 1 << 31), Array(totals)[way])),
            across.b.eq(tree), across.is_max.eq(self.is_max),
            most.eq(Mux(fresh, way, ways - 1)),
        ]
        with m.If(valid):
            m.d.sync += [way.eq(Mux(last, 0, way + 1)), fresh.eq(last | (fresh & ~way.all()))]
        *_, joins = self._later(m, valid, ways - 1, "joins")
        *_, joined = self._later(m, way, ways - 1, "joined")
        for number, total in enumerate(totals):
            with m.If(joins & (joined == number)):
                m.d.sync += total.eq(across.o)

        ends = self._later(m, valid & last, ways, "ends")
        *_, most = self._later(m, most, ways, "most")
        absent = Mux(self.is_max, lowest, 0)
        words = [totals[0], *(Mux(most >= number, total, absent)
                              for number, total in enumerate(totals) if number)]
        level = 0
        while len(words) > 1:
            level += 1
            words = [self._node(m, f"join_{level}_{number}", words[2 * number:2 * number + 2])
                     for number in range(len(words) // 2)]
        ended = self._later(m, ends[-1], across_cycles(self.config) - ways, "ended")
        *_, ended_row = self._later(m, row, across_cycles(self.config), "ended_row")
        return words[0], ended[-1], ended_row, Cat(*ends, *ended).any()

    def _later(self, m, value, cycles, name):
        """``value`` 1 to ``cycles`` cycles later; without a reset where it is no single bit."""
        found = []
        for cycle in range(cycles, 0, -1):
            later = Signal.like(value, name=name if cycle == 1 else f"{name}_{cycle}",
                                reset_less=len(value) > 1)
            m.d.sync += later.eq(value)
            found.append(later)
            value = later
        return found

    def _node(self, m, name, words, first=False):
        """The reduction of two words, from a register."""
        node = ReduceNode(self.config.lane, first, self.config.sum_ways - 1)
        m.submodules[name.replace("sum", "node")] = shared(node)
        found = Signal(32, name=name, reset_less=True)
        m.d.comb += [
            node.a.eq(words[0]),
            node.b.eq(words[1]),
            node.is_max.eq(self.is_max),
        ]
        m.d.sync += found.eq(node.o)
        return found

    def _scale(self, m, total, ended, ended_row):
        """What ``_finish`` takes: the total itself, or for MEAN and INVERSE_SQRT the product and
        sum, with a register after each; its valid and row; whether any is in flight."""
        ways = self.config.sum_ways
        multiplier, adder = FloatMultiplier(BINARY32, ways - 1), FloatAdder(BINARY32, ways - 1)
        m.submodules.multiplier = shared(multiplier)
        m.submodules.post_adder = shared(adder)
        if ways > 1:
            m.d.comb += [multiplier.enable.eq(1), adder.enable.eq(1)]
        product, sum_ = Signal(32, reset_less=True), Signal(32, reset_less=True)
        averages = Signal()
        finished = Signal(32)
        m.d.comb += [
            averages.eq(self._is(*_AVERAGES)),
            multiplier.a.eq(total), multiplier.b.eq(self.inverse_n),
            adder.a.eq(product), adder.b.eq(self.epsilon),
            finished.eq(Mux(averages, sum_, total)),
        ]
        p_ended = self._later(m, ended & averages, ways, "$signal")
        s_ended = self._later(m, p_ended[-1], ways, "s_ended")
        *_, p_row = self._later(m, ended_row, ways, "p_row")
        *_, s_row = self._later(m, p_row, ways, "s_row")
        *_, alone = [product, *self._later(m, product, ways - 1, "alone")]
        m.d.sync += [
            product.eq(multiplier.o),
            sum_.eq(Mux(self._is(*_SHIFTED), adder.o, alone)),
        ]
        return (finished, Mux(averages, s_ended[-1], ended), Mux(averages, s_row, ended_row),
                Cat(ended, *p_ended, *s_ended[:-1]).any() if ways > 1 else ended | p_ended[0])

    def _tree(self, m):
        """The beat's reduction, registered at each of log2(L) levels and ``sum_ways`` - 1 times
        within."""
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
            words = [self._node(m, f"sum_{level}_{number}", words[2 * number:2 * number + 2],
                                first=level == 1) for number in range(len(words) // 2)]
        return words[0]

    def _finish(self, m, total):
        """Lane word of an FP32 reduction, its reciprocal or inverse square root; whether a cycle
        later, as a register stands after the rounding."""
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
        ]
        later = result_cycles(self.config) > 1
        if later:
            (rounded,) = self._later(m, rounded, 1, "rounded_word")
        m.d.comb += reciprocal.value.eq(rounded)
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
            return result, later
        return Mux(self.post == Post.POWER, self._power(m, rounded), result), later

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
