"""The accumulation buffer: two banks of accumulator words with one adder a column."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.accumulator import accumulator_adder
from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulationBuffer", "lane_to_accumulator", "tile_mark"]


def tile_mark() -> data.StructLayout:
    """What a word from the array completes.

    ``final``: the word itself, it is of the last K-tile. ``closing``: it is of the tile that
    completes its chunk. ``ends``: it is its tile's last row.
    """
    return data.StructLayout({"final": 1, "closing": 1, "ends": 1})


def lane_to_accumulator(config: AcceleratorConfig, word):
    """A lane word as accumulator: in its format, exactly (BF16 is the upper half of FP32); fixed
    point cannot hold every one, there it is kept as it is in the low bits (``ExactRound``)."""
    if config.acc == "exact":
        return Cat(word, Const(0, config.acc_bits - config.lane.bits))
    return Cat(Const(0, config.acc_bits - config.lane.bits), word)


class AccumulationBuffer(wiring.Component):
    """Two banks of ``acc_depth`` words of D accumulators; one is filled while one is drained.

    A word is in the accumulator's own format, unrounded; what comes from memory or from the lanes
    are lane words (``lane_to_accumulator``). Callers keep fill and drain on different
    banks; each bank has one read and one write port.

    Ports
    -----
    tile, tile_valid, tile_bank, tile_address, tile_first, tile_mark: a word from the array is
        stored (first K-tile) or added to its word, written three cycles later. The same
        address may come again after ``hdl.spec.timing.REPEAT_CYCLES``.
    done_valid, done_bank, done_mark: that word is in memory from the next cycle on. done_total:
        the word itself.
    fill_valid, fill_bank, fill_address, fill_data: a whole word from memory.
    drain_enable, drain_bank, drain_address → drain_data one cycle later, held until the next read.
    store_valid, store_bank, store_address, store_group, store_data: L accumulators written
        back to part ``store_group`` of a word.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        word = config.dim * config.acc_bits
        address = range(config.acc_depth)
        groups = config.dim // config.lanes
        super().__init__({
            "tile": In(config.dim * config.tile_bits), "tile_valid": In(1), "tile_bank": In(1),
            "tile_address": In(address), "tile_first": In(1), "tile_mark": In(tile_mark()),
            "done_valid": Out(1), "done_bank": Out(1), "done_mark": Out(tile_mark()),
            "done_total": Out(word),
            "fill_valid": In(1), "fill_bank": In(1), "fill_address": In(address),
            "fill_data": In(word),
            "drain_enable": In(1), "drain_bank": In(1), "drain_address": In(address),
            "drain_data": Out(word),
            "store_valid": In(1), "store_bank": In(1), "store_address": In(address),
            "store_group": In(range(groups)), "store_data": In(config.lanes * config.acc_bits),
        })

    def elaborate(self, platform):
        m = Module()
        dim, acc, lanes = self.config.dim, self.config.acc_bits, self.config.lanes
        tile = self.config.tile_bits
        groups = dim // lanes

        # Stages of the read-modify-write: r(ead), a(dd), w(rite).
        a_valid, a_bank, a_first = (Signal(name=f"a_{n}") for n in ("valid", "bank", "first"))
        a_mark = Signal(tile_mark(), name="a_mark", reset_less=True)
        a_address = Signal.like(self.tile_address, name="a_address", reset_less=True)
        a_tile = Signal.like(self.tile, name="a_tile", reset_less=True)
        m.d.sync += [
            a_valid.eq(self.tile_valid), a_bank.eq(self.tile_bank), a_first.eq(self.tile_first),
            a_mark.eq(self.tile_mark), a_address.eq(self.tile_address), a_tile.eq(self.tile),
        ]
        w_valid, w_bank = (Signal(name=f"w_{n}") for n in ("valid", "bank"))
        w_mark = Signal(tile_mark(), name="w_mark", reset_less=True)
        w_address = Signal.like(self.tile_address, name="w_address", reset_less=True)
        w_total = Signal(dim * acc, reset_less=True)
        a_stored = Signal(dim * acc)
        totals = []
        for column in range(dim):
            adder = accumulator_adder(self.config)
            m.submodules[f"adder{column}"] = shared(adder)
            m.d.comb += [
                adder.stored.eq(a_stored.word_select(column, acc)),
                adder.tile.eq(a_tile.word_select(column, tile)),
                adder.first.eq(a_first),
            ]
            totals.append(adder.total)
        m.d.sync += [
            w_valid.eq(a_valid), w_bank.eq(a_bank), w_mark.eq(a_mark), w_address.eq(a_address),
            w_total.eq(Cat(totals)),
        ]
        m.d.comb += [self.done_valid.eq(w_valid), self.done_bank.eq(w_bank),
                     self.done_mark.eq(w_mark), self.done_total.eq(w_total)]

        drained = Signal()
        with m.If(self.drain_enable):
            m.d.sync += drained.eq(self.drain_bank)
        read_data = []
        for bank in range(2):
            sram = Sram1R1W(dim * acc, self.config.acc_depth, granularity=lanes * acc)
            m.submodules[f"bank{bank}"] = shared(sram)
            tile_read = self.tile_valid & ~self.tile_first & (self.tile_bank == bank)
            drain_read = self.drain_enable & (self.drain_bank == bank)
            tile_write = Signal(name=f"tile_write{bank}")
            fill_write = Signal(name=f"fill_write{bank}")
            store_write = Signal(name=f"store_write{bank}")
            m.d.comb += [
                tile_write.eq(w_valid & (w_bank == bank)),
                fill_write.eq(self.fill_valid & (self.fill_bank == bank)),
                store_write.eq(self.store_valid & (self.store_bank == bank)),
                sram.read_enable.eq(tile_read | drain_read),
                sram.read_address.eq(Mux(drain_read, self.drain_address, self.tile_address)),
                sram.write_address.eq(Mux(tile_write, w_address, Mux(
                    fill_write, self.fill_address, self.store_address))),
                sram.write_data.eq(Mux(tile_write, w_total, Mux(
                    fill_write, self.fill_data, self.store_data.replicate(groups)))),
                sram.write_enable.eq(Mux(
                    tile_write | fill_write, (1 << groups) - 1,
                    store_write << self.store_group)),
            ]
            read_data.append(sram.read_data)
        m.d.comb += [
            a_stored.eq(Mux(a_bank, read_data[1], read_data[0])),
            self.drain_data.eq(Mux(drained, read_data[1], read_data[0])),
        ]
        return m
