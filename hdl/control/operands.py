"""The operand loader: blocks of A or X, brought in ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.control.nest import Level, Nest
from hdl.control.plan import COUNT_BITS, plan_layout
from hdl.memory.accumulation import lane_to_accumulator
from hdl.memory.chunk import chunk_layout
from hdl.memory.transfer import TRANSFER
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.vector.fetch import FetchPort

__all__ = ["OperandLoader"]


class OperandLoader(wiring.Component):
    """Loads blocks of A into the input banks, or blocks of X (VECTOR) into accumulation banks.

    Ports
    -----
    i: plans, in program order.
    transfer, chunks: a client of the read engine, chunks resized to ``word_bytes``.
    bank_free: one bit an input bank. ``write_*``: words of D operands into an input bank, row
        by row without gaps. ``filled``: pulse, ``write_bank`` is complete.
    fill_free: the accumulation bank that comes next is free. ``fill_*``: words of D accumulators,
        row by row. ``fill_claim``, ``fill_done``: pulses, the bank is taken, is complete.
    filling: the plan in progress is a VECTOR. idle: no plan in progress.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(plan_layout(config))),
            "transfer": Out(stream.Signature(TRANSFER)),
            "chunks": In(stream.Signature(chunk_layout(config.word_bytes))),
            "bank_free": In(2), "write_valid": Out(1), "write_bank": Out(1),
            "write_address": Out(range(config.input_depth)),
            "write_data": Out(8 * config.word_bytes), "filled": Out(1),
            "fill_free": In(1), "fill_valid": Out(1),
            "fill_address": Out(range(config.acc_depth)),
            "fill_data": Out(config.dim * config.acc_bits),
            "fill_claim": Out(1), "fill_done": Out(1),
            "filling": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.fetch = fetch = FetchPort(config, config.dim)
        plan = Signal(plan_layout(config), reset_less=True)
        nest = self._walk(m, plan)

        rows_left = Signal(COUNT_BITS, reset_less=True)
        address = Signal(max(len(self.write_address), len(self.fill_address)), reset_less=True)
        word, row_last, done = Signal(), Signal(), Signal()
        m.d.comb += [
            fetch.wide.eq(plan.x_wide), fetch.e5m2.eq(plan.a_e5m2),
            fetch.i.payload.eq(self.chunks.payload), fetch.o.ready.eq(1),
            self.filling.eq(~self.idle & ~plan.gemm),
            self.write_address.eq(address), self.write_data.eq(self.chunks.payload.data),
            self.fill_address.eq(address),
            self.fill_data.eq(Cat(lane_to_accumulator(config, fetch.o.payload.data[index])
                                  for index in range(config.dim))),
            done.eq(word & row_last & (rows_left == 1)),
        ]
        with m.If(word):
            m.d.sync += address.eq(address + 1)
            with m.If(row_last):
                m.d.sync += rows_left.eq(rows_left - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.i.ready.eq(1)]
                with m.If(self.i.valid):
                    m.d.sync += plan.eq(self.i.payload)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += nest.start.eq(1)
                m.next = "REQUEST"
            with m.State("REQUEST"):
                free = Mux(plan.gemm, self.bank_free.bit_select(self.write_bank, 1), self.fill_free)
                m.d.comb += self.transfer.valid.eq(nest.valid & free)
                with m.If(nest.idle):
                    m.next = "IDLE"
                with m.Elif(self.transfer.valid & self.transfer.ready):
                    m.d.comb += self.fill_claim.eq(~plan.gemm)
                    m.d.sync += [rows_left.eq(nest.rows_size), address.eq(0)]
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                self._receive(m, plan, fetch, word, row_last, done)
                with m.If(done):
                    m.d.comb += nest.next.eq(1)
                    m.next = "REQUEST"
        return m

    def _walk(self, m: Module, plan) -> Nest:
        """The loops over blocks, and the transfer that each asks for."""
        config = self.config
        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunks", COUNT_BITS),
            Level("columns", COUNT_BITS)))
        element_log2 = log2_exact(config.format.storage_bytes)
        wide = ~plan.gemm & plan.x_wide & (element_log2 == 0)
        span = Mux(plan.gemm, plan.k_span, plan.chunk)

        def to_bytes(count):
            return Mux(wide, count << 1, count << element_log2)

        # A whose K is one span stays for all chunks of its block; else each chunk loads it again.
        repeats = plan.gemm & ~plan.resident
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(Mux(plan.gemm & plan.resident, 1, plan.passes)),
            nest.passes_step.eq(1),
            nest.chunks_total.eq(plan.n), nest.chunks_step.eq(Mux(repeats, plan.chunk, plan.n)),
            nest.columns_total.eq(Mux(plan.gemm, plan.k, plan.n)), nest.columns_step.eq(span),
        ]
        row_base = Signal(64, reset_less=True)
        offset = Signal(COUNT_BITS + 2, reset_less=True)
        with m.If(nest.rows_enter):
            m.d.sync += row_base.eq(plan.a_address)
        with m.Elif(nest.rows_advance):
            m.d.sync += row_base.eq(row_base + (plan.a_stride << plan.block_log2))
        with m.If(nest.columns_enter):
            m.d.sync += offset.eq(0)
        with m.Elif(nest.columns_advance):
            m.d.sync += offset.eq(offset + to_bytes(span))
        m.d.comb += [
            self.transfer.payload.address.eq(row_base + offset),
            self.transfer.payload.row_bytes.eq(to_bytes(nest.columns_size)),
            self.transfer.payload.rows.eq(nest.rows_size),
            self.transfer.payload.stride.eq(plan.a_stride),
        ]
        return nest

    def _receive(self, m: Module, plan, fetch, word, row_last, done) -> None:
        """Words of A go to an input bank as stored, those of X through the decoders."""
        with m.If(plan.gemm):
            m.d.comb += [
                self.chunks.ready.eq(1), self.write_valid.eq(self.chunks.valid),
                word.eq(self.chunks.valid), row_last.eq(self.chunks.payload.last),
                self.filled.eq(done),
            ]
            with m.If(done):
                m.d.sync += self.write_bank.eq(~self.write_bank)
        with m.Else():
            m.d.comb += [
                fetch.i.valid.eq(self.chunks.valid), self.chunks.ready.eq(fetch.i.ready),
                self.fill_valid.eq(fetch.o.valid),
                word.eq(fetch.o.valid), row_last.eq(fetch.o.payload.last),
                self.fill_done.eq(done),
            ]
