"""Row maxima of A·B, taken while the array's last words pass into an accumulation bank."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.accumulator_round import accumulator_round
from hdl.arith.fixed_multiplier import FixedMultiplier
from hdl.arith.float_multiplier import FloatMultiplier
from hdl.arith.sort_key import exact_key, float_key, float_word, integer_key
from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.ports.accumulation import Totals, arrival_layout, maximum_layout, tile_mark
from hdl.ports.sram import SramRead
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import round_cycles

__all__ = ["RowMaximum"]


def _place(bank: Value, row: Value) -> Value:
    """Address of a row's maximum among those of both banks."""
    return Cat(row, bank)


_FLOAT = float_key, float_word
_KEYS = {"exact": (exact_key, exact_key), "int32": (integer_key, integer_key)}
"""From words of an accumulator to their keys, and back; those of the others are floats."""


class _Key(wiring.Component):
    """``key`` of an accumulator ``word``: ordered as an unsigned integer, the lowest where
    absent."""

    def __init__(self, config: AcceleratorConfig):
        self.acc = config.acc
        bits = config.acc_bits
        super().__init__({"word": In(bits), "absent": In(1), "key": Out(bits)})

    @property
    def leaf_name(self) -> str:
        return f"maximum_key_{len(self.word)}" + (f"_{self.acc}" if self.acc in _KEYS else "")

    def elaborate(self, platform):
        m = Module()
        key_of, _ = _KEYS.get(self.acc, _FLOAT)
        m.d.comb += self.key.eq(Mux(self.absent, 0, key_of(self.word)))
        return m


class _Larger(wiring.Component):
    """``o`` = the larger of two unsigned words; combinational."""

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__({"a": In(bits), "b": In(bits), "o": Out(bits)})

    @property
    def leaf_name(self) -> str:
        return f"larger_{self.bits}"

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(Mux(self.a < self.b, self.b, self.a))
        return m


class _Largest(wiring.Component):
    """``o`` = the largest of ``count`` unsigned words ``i``, log2(count) cycles later.

    Two equal halves and a register: each size is one shared leaf. ``count`` is a power of two.
    """

    def __init__(self, bits: int, count: int):
        log2_exact(count)
        self.bits = bits
        self.count = count
        super().__init__({"i": In(count * bits), "o": Out(bits)})

    @property
    def leaf_name(self) -> str:
        return f"largest_{self.bits}x{self.count}"

    def elaborate(self, platform):
        m = Module()
        words = [self.i[:self.bits], self.i[self.bits:]]
        if self.count > 2:
            for number in range(2):
                half = _Largest(self.bits, self.count // 2)
                m.submodules[f"half{number}"] = shared(half)
                m.d.comb += half.i.eq(self.i.word_select(number, len(half.i)))
                words[number] = half.o
        larger = _Larger(self.bits)
        m.submodules.larger = shared(larger)
        largest = Signal(self.bits, reset_less=True)
        m.d.comb += [larger.a.eq(words[0]), larger.b.eq(words[1]), self.o.eq(largest)]
        m.d.sync += largest.eq(larger.o)
        return m


class RowMaximum(wiring.Component):
    """The maximum of each row of a block, times ``scale`` in lane arithmetic.

    NaN wins, +0 is larger than -0; columns beyond the edge take no part. Words are compared as the
    accumulator holds them and the result is rounded once to the lane's type: rounding to nearest
    is monotone, so that this is the maximum of the rounded words. On keys that are ordered as
    unsigned integers a comparison serves every format.

    Members
    -------
    totals: In(``Totals``); those marked final count, in the order column tile, row. A row's come
        at least four cycles apart.
    setting: In, ``maximum_layout`` of each bank, constant while words come for it.
    arrival: Out(``arrival_layout``), the same words later: a read that is asked for two cycles
        after a row's last word gives its maximum.
    read: In(``SramRead``), the address is the row. maximum: Out, one cycle later, held until the
        next read.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "totals": In(Totals(config)),
            "setting": In(data.ArrayLayout(maximum_layout(config), 2)),
            "arrival": Out(arrival_layout()), "read": In(SramRead(config.row_depth, banks=2)),
            "maximum": Out(config.word.bits),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        tag = data.StructLayout({"valid": 1, "bank": 1, "first": 1, "mark": tile_mark(),
                                 "row": log2_exact(config.row_depth)})
        entering = Signal(tag)
        self._enter(m, entering)
        levels = log2_exact(config.dim)
        tags = [Signal(tag, name=f"tag_{level}") for level in range(1, levels + 1)]
        for later, earlier in zip(tags, [entering, *tags], strict=False):
            m.d.sync += later.eq(earlier)
        largest = self._tree(m)

        # A row's running maximum is read a cycle before the tree's result meets it.
        running = Sram1R1W(config.acc_bits, config.row_depth)
        m.submodules.running = shared(running)
        before, met = tags[-2], tags[-1]
        key = Signal(config.acc_bits)
        across = _Larger(config.acc_bits)
        m.submodules.across = shared(across)
        m.d.comb += [
            running.read.enable.eq(before.valid), running.read.address.eq(before.row),
            across.a.eq(largest), across.b.eq(Mux(met.first, 0, running.data)),
            key.eq(across.o),
            running.write.enable.eq(met.valid & ~met.mark.closing),
            running.write.address.eq(met.row), running.write.data.eq(key),
        ]
        self._finish(m, met, key)
        return m

    def _enter(self, m: Module, entering) -> None:
        """Which row a word is of, and whether it is the first of it."""
        totals = self.totals
        row = Signal(log2_exact(self.config.row_depth))
        first = Signal(init=1)
        m.d.comb += [
            entering.valid.eq(totals.valid & totals.mark.final), entering.bank.eq(totals.bank),
            entering.mark.eq(totals.mark), entering.first.eq(first), entering.row.eq(row),
        ]
        with m.If(entering.valid):
            m.d.sync += row.eq(row + 1)
            with m.If(totals.mark.ends):
                m.d.sync += [row.eq(0), first.eq(totals.mark.closing)]

    def _tree(self, m: Module) -> Signal:
        """The word's largest key, registered at each of log2(D) levels."""
        config = self.config
        totals = self.totals
        edge = self.setting[totals.bank].edge
        cut = Signal()
        m.d.comb += cut.eq(totals.mark.closing & (edge != 0))
        keys = []
        for column in range(config.dim):
            key = _Key(config)
            m.submodules[f"key{column}"] = shared(key)
            m.d.comb += [key.word.eq(totals.word.word_select(column, config.acc_bits)),
                         key.absent.eq(cut & (edge <= column))]
            keys.append(key.key)
        tree = _Largest(config.acc_bits, config.dim)
        m.submodules.tree = shared(tree)
        m.d.comb += tree.i.eq(Cat(keys))
        return tree.o

    def _finish(self, m: Module, met, key) -> None:
        """Round and scale the maxima of rows that are complete; one register before each."""
        config = self.config
        if config.fixed:
            round_, multiplier = None, FixedMultiplier()
        else:
            round_, multiplier = accumulator_round(config), FloatMultiplier(config.lane)
        found, rounded_tag = Signal.like(met, name="found"), Signal.like(met, name="rounded_tag")
        found_key = Signal.like(key, name="found_key", reset_less=True)
        rounded = Signal(config.word.bits, reset_less=True)
        finished = Sram1R1W(config.word.bits, 2 * config.row_depth)
        _, word_of = _KEYS.get(config.acc, _FLOAT)
        own = word_of(found_key)
        if round_ is not None:
            m.submodules.round = shared(round_)
            own = round_.result
        m.submodules.multiplier = shared(multiplier)
        m.submodules.finished = shared(finished)
        before = found
        if round_cycles(config):
            before = Signal.like(met, name="halfway")
            m.d.sync += before.eq(found)
            m.d.comb += round_.enable.eq(1)
        m.d.sync += [found.eq(met), found_key.eq(key), rounded_tag.eq(before),
                     rounded.eq(own)]
        scale = self.setting[rounded_tag.bank].scale
        if round_ is None:
            m.d.comb += [multiplier.x.eq(rounded), multiplier.y.eq(scale), multiplier.scale.eq(1)]
        else:
            m.d.comb += [
                round_.value.eq(word_of(found_key)),
                multiplier.a.eq(rounded),
                multiplier.b.eq(Cat(Const(0, config.lane.bits - 16), scale)),
            ]
        m.d.comb += [
            finished.write.enable.eq(rounded_tag.valid & rounded_tag.mark.closing),
            finished.write.address.eq(_place(rounded_tag.bank, rounded_tag.row)),
            finished.write.data.eq(multiplier.o),
            self.arrival.valid.eq(before.valid), self.arrival.bank.eq(before.bank),
            self.arrival.tile_ends.eq(before.mark.ends),
            self.arrival.complete.eq(before.mark.closing & before.mark.ends),
            finished.read.enable.eq(self.read.enable),
            finished.read.address.eq(_place(self.read.bank, self.read.address)),
            self.maximum.eq(finished.data),
        ]
