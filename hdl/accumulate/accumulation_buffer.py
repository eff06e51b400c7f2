"""The accumulation buffer: two banks of accumulator words, one adder per column."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.accumulator_adder import accumulator_adder
from hdl.lib.leaf import shared
from hdl.lib.pair import one_of
from hdl.lib.sram import Sram1R1W
from hdl.ports.accumulation import Totals, row_token, tile_mark
from hdl.ports.parametric import Parametric
from hdl.ports.sram import SramRead, SramWrite
from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulationBuffer", "PartWrite", "lane_to_accumulator"]


def lane_to_accumulator(config: AcceleratorConfig, word: Value) -> Value:
    """A lane word as accumulator: in its format, exactly (BF16 is the upper half of FP32); fixed
    point cannot hold every one, there it is kept as it is in the low bits (``ExactRound``)."""
    if config.exact_sums:
        return Cat(word, Const(0, config.acc_bits - len(word)))
    return Cat(Const(0, config.acc_bits - config.lane.bits), word)


class PartWrite(Parametric):
    """L accumulators written back to their word, seen from the vector unit.

    Members
    -------
    enable: Out(1). bank: Out(1). address: Out, of the word. part: Out, which L of its D.
    data: Out.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"config": config}, {
            "enable": Out(1), "bank": Out(1), "address": Out(range(config.acc_depth)),
            "part": Out(range(config.dim // config.lanes)),
            "data": Out(config.lanes * config.acc_bits)})


class AccumulationBuffer(wiring.Component):
    """Two banks of ``acc_depth`` words of D accumulators, a double buffer: one is filled while the
    other is drained.

    A word is in the accumulator's own format, unrounded; what comes from memory or from the lanes
    are lane words (``lane_to_accumulator``). Callers keep fill and drain on different
    banks; each bank has one read and one write port.

    Members
    -------
    token: In(``row_token``), ``tile``: In, a word from the array, which is stored (first K-tile)
        or added to its word, written three cycles later. The same address may come again after
        ``hdl.spec.timing.REPEAT_CYCLES``.
    totals: Out(``Totals``), that word as it is written.
    fill: In(``SramWrite``), whole words from memory.
    drain: In(``SramRead``). drained: Out, one cycle later, held until the next read.
    store: In(``PartWrite``), what the lanes write back.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        word, depth = config.dim * config.acc_bits, config.acc_depth
        super().__init__({
            "token": In(row_token(config)), "tile": In(config.dim * config.tile_bits),
            "totals": Out(Totals(config)), "fill": In(SramWrite(word, depth, banks=2)),
            "drain": In(SramRead(depth, banks=2)), "drained": Out(word),
            "store": In(PartWrite(config)),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        srams = [Sram1R1W(config.dim * config.acc_bits, config.acc_depth,
                          granularity=config.lanes * config.acc_bits) for _ in range(2)]
        words = [sram.data for sram in srams]
        address = self._add(m, words)
        for bank, sram in enumerate(srams):
            m.submodules[f"bank{bank}"] = shared(sram)
            self._connect(m, bank, sram, address)
        drained = Signal()
        with m.If(self.drain.enable):
            m.d.sync += drained.eq(self.drain.bank)
        m.d.comb += self.drained.eq(one_of(words, drained))
        return m

    def _add(self, m: Module, words) -> Signal:
        """``totals``, whose stored words were read two cycles before, and their address."""
        config, token, totals = self.config, self.token, self.totals
        acc, tile = config.acc_bits, config.tile_bits
        # Stages of the read-modify-write: r(ead), a(dd), w(rite).
        a_valid, a_bank, a_first = (Signal(name=f"a_{n}") for n in ("valid", "bank", "first"))
        a_mark = Signal(tile_mark(), name="a_mark", reset_less=True)
        a_address = Signal.like(token.address, name="a_address", reset_less=True)
        a_tile = Signal.like(self.tile, name="a_tile", reset_less=True)
        m.d.sync += [
            a_valid.eq(token.valid), a_bank.eq(token.bank), a_first.eq(token.first),
            a_mark.eq(token.mark), a_address.eq(token.address), a_tile.eq(self.tile),
        ]
        w_valid, w_bank = (Signal(name=f"w_{n}") for n in ("valid", "bank"))
        w_mark = Signal(tile_mark(), name="w_mark", reset_less=True)
        w_address = Signal.like(token.address, name="w_address", reset_less=True)
        w_total = Signal(config.dim * acc, reset_less=True)
        a_stored = Signal(config.dim * acc)
        sums = []
        for column in range(config.dim):
            adder = accumulator_adder(config)
            m.submodules[f"adder{column}"] = shared(adder)
            m.d.comb += [
                adder.stored.eq(a_stored.word_select(column, acc)),
                adder.tile.eq(a_tile.word_select(column, tile)),
                adder.first.eq(a_first),
            ]
            sums.append(adder.total)
        m.d.sync += [
            w_valid.eq(a_valid), w_bank.eq(a_bank), w_mark.eq(a_mark), w_address.eq(a_address),
            w_total.eq(Cat(sums)),
        ]
        m.d.comb += [
            a_stored.eq(one_of(words, a_bank)),
            totals.valid.eq(w_valid), totals.bank.eq(w_bank), totals.mark.eq(w_mark),
            totals.word.eq(w_total),
        ]
        return w_address

    def _connect(self, m: Module, bank: int, sram: Sram1R1W, address) -> None:
        """A bank: the array reads and writes it, or the loader fills it, or the drain reads it and
        the lanes write back; callers keep these apart."""
        parts = self.config.dim // self.config.lanes
        token, fill, store = self.token, self.fill, self.store
        tile_read = token.valid & ~token.first & (token.bank == bank)
        drain_read = self.drain.enable & (self.drain.bank == bank)
        tile_write = Signal(name=f"tile_write{bank}")
        fill_write = Signal(name=f"fill_write{bank}")
        store_write = Signal(name=f"store_write{bank}")
        m.d.comb += [
            tile_write.eq(self.totals.valid & (self.totals.bank == bank)),
            fill_write.eq(fill.enable & (fill.bank == bank)),
            store_write.eq(store.enable & (store.bank == bank)),
            sram.read.enable.eq(tile_read | drain_read),
            sram.read.address.eq(Mux(drain_read, self.drain.address, token.address)),
            sram.write.address.eq(Mux(tile_write, address, Mux(
                fill_write, fill.address, store.address))),
            sram.write.data.eq(Mux(tile_write, self.totals.word, Mux(
                fill_write, fill.data, store.data.replicate(parts)))),
            sram.write.enable.eq(Mux(tile_write | fill_write, (1 << parts) - 1,
                                     store_write << store.part)),
        ]
