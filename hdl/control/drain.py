"""Draining an accumulation bank: every vector instruction of a command is a pass over the block."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.control.nest import Level, Nest
from hdl.control.plan import COUNT_BITS, plan_layout
from hdl.memory.transfer import TRANSFER
from hdl.spec.commands import INSTRUCTIONS, Destination, Operand
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.vector.beat import instruction_field

__all__ = ["Drain", "request_layout"]


def request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Control of one beat: L accumulators of one row, from part ``group`` of a word."""
    return data.StructLayout({
        "address": range(config.acc_depth), "group": range(config.dim // config.lanes),
        "keep": config.lanes, "row": range(config.row_depth), "last": 1})


class Drain(wiring.Component):
    """Sequences blocks, chunks, instructions and beats from the accumulation banks to the lanes.

    Ports
    -----
    i: plans, in program order.
    bank_ready: one bit an accumulation bank; ``released`` with ``released_bank``: it is free again.
    y_transfer, c_transfer: requests to the read and the write engine. ``y_*``, ``c_*``: how the
        elements of Y and C are stored; constant from the request to the last element.
    instruction, imm0, imm1, uses_y, to_memory: of the running pass; constant while it lasts.
    read_enable, read_bank, read_address: the drain port of the accumulation buffer.
    beat: valid with the data that the last read left on the port; ``beat.ready`` takes it.
    settled: the vector unit holds nothing and C has taken everything.
    idle: no plan in progress.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(plan_layout(config))),
            "bank_ready": In(2), "released": Out(1), "released_bank": Out(1),
            "y_transfer": Out(stream.Signature(TRANSFER)),
            "c_transfer": Out(stream.Signature(TRANSFER)),
            "y_wide": Out(1), "y_e5m2": Out(1), "c_wide": Out(1), "c_e5m2": Out(1),
            "instruction": Out(32), "imm0": Out(16), "imm1": Out(16),
            "uses_y": Out(1), "to_memory": Out(1),
            "read_enable": Out(1), "read_bank": Out(1),
            "read_address": Out(range(config.acc_depth)),
            "beat": Out(stream.Signature(request_layout(config))),
            "settled": In(1), "idle": Out(1),
        })

    def _offsets(self, m: Module, nest: Nest, plan, name: str, stride, base, wide) -> Signal:
        """Byte address of the current chunk of a matrix."""
        element_log2 = log2_exact(self.config.format.storage_bytes)
        wide = wide & (element_log2 == 0)
        row, column = (Signal(64, name=f"{name}_{part}", reset_less=True)
                       for part in ("row", "column"))
        with m.If(nest.rows_enter):
            m.d.sync += row.eq(base)
        with m.Elif(nest.rows_advance):
            m.d.sync += row.eq(row + (stride << plan.block_log2))
        with m.If(nest.chunk_enter):
            m.d.sync += column.eq(0)
        with m.Elif(nest.chunk_advance):
            m.d.sync += column.eq(column + Mux(wide, plan.chunk << 1, plan.chunk << element_log2))
        address = Signal(64, name=f"{name}_address")
        m.d.comb += address.eq(row + column)
        return address

    def _transfer(self, m: Module, nest: Nest, plan, port, address, stride, wide) -> None:
        """A streamed row is one transfer of all its chunks."""
        element_log2 = log2_exact(self.config.format.storage_bytes)
        columns = Signal(COUNT_BITS)
        m.d.comb += [
            columns.eq(Mux(plan.streamed, plan.n, nest.chunk_size)),
            port.payload.address.eq(address),
            port.payload.row_bytes.eq(Mux(wide & (element_log2 == 0), columns << 1,
                                          columns << element_log2)),
            port.payload.rows.eq(nest.rows_size),
            port.payload.stride.eq(stride),
        ]

    def _beats(self, m: Module, nest: Nest, plan, run, bank) -> Signal:
        """Read words in order and offer them group by group; returns ``done``, the last is taken.

        The read port holds its word, so it is itself the one stage between address and beat.
        """
        config = self.config
        lanes = config.lanes
        columns = Signal(COUNT_BITS, reset_less=True)
        rows = Signal(range(config.row_depth + 1), reset_less=True)
        address = Signal(range(config.acc_depth), reset_less=True)
        row = Signal(range(config.row_depth), reset_less=True)
        group = Signal(range(config.dim // config.lanes))
        reading = Signal()
        loaded, final = Signal(), Signal()
        beat = self.beat.payload

        with m.If(run):
            m.d.sync += [columns.eq(nest.chunk_size), rows.eq(nest.rows_size), address.eq(0),
                         row.eq(0), group.eq(0), reading.eq(1)]
        word_last, row_end, taken, fetch = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            row_end.eq(columns <= lanes),
            word_last.eq(row_end | (group == config.dim // lanes - 1)),
            final.eq(row_end & (rows == 1)),
            taken.eq(self.beat.valid & self.beat.ready),
            self.beat.valid.eq(loaded),
            beat.group.eq(group), beat.row.eq(row), beat.address.eq(address - 1),
            beat.last.eq(row_end & (nest.chunk_last | ~plan.streamed)),
            fetch.eq(reading & (~loaded | (taken & word_last & ~final))),
            self.read_enable.eq(fetch), self.read_bank.eq(bank), self.read_address.eq(address),
        ]
        m.d.comb += beat.keep.eq(Cat(columns > lane for lane in range(lanes)))
        with m.If(taken):
            m.d.sync += [columns.eq(columns - lanes), group.eq(group + 1)]
            with m.If(word_last):
                m.d.sync += [group.eq(0), loaded.eq(0)]
            with m.If(row_end):
                m.d.sync += [columns.eq(nest.chunk_size), rows.eq(rows - 1), row.eq(row + 1)]
        with m.If(fetch):
            m.d.sync += [loaded.eq(1), address.eq(address + 1)]
        done = Signal()
        m.d.comb += done.eq(taken & final)
        with m.If(done):
            m.d.sync += reading.eq(0)
        return done

    def elaborate(self, platform):
        m = Module()
        config = self.config
        plan = Signal(plan_layout(config), reset_less=True)
        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunk", COUNT_BITS)))
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(plan.passes), nest.passes_step.eq(1),
            nest.chunk_total.eq(plan.n), nest.chunk_step.eq(plan.chunk),
        ]
        index = Signal(range(INSTRUCTIONS), reset_less=True)
        bank = Signal()
        instruction = Signal(32, reset_less=True)
        uses_y, to_memory = Signal(), Signal()
        destination = instruction_field(instruction, "destination")
        second = instruction_field(instruction, "y")
        m.d.comb += [
            uses_y.eq((instruction_field(instruction, "multiply") == Operand.Y)
                      | (instruction_field(instruction, "add") == Operand.Y)
                      | (instruction_field(instruction, "scale") == Operand.Y)),
            to_memory.eq(destination == Destination.MEMORY),
            self.instruction.eq(instruction), self.imm0.eq(plan.imm0), self.imm1.eq(plan.imm1),
            self.uses_y.eq(uses_y), self.to_memory.eq(to_memory),
            self.y_wide.eq(Mux(second, plan.y1_wide, plan.y0_wide)),
            self.y_e5m2.eq(Mux(second, plan.y1_e5m2, plan.y0_e5m2)),
            self.c_wide.eq(plan.c_wide), self.c_e5m2.eq(plan.c_e5m2),
        ]
        y0 = self._offsets(m, nest, plan, "y0", plan.y0_stride, plan.y0_address, plan.y0_wide)
        y1 = self._offsets(m, nest, plan, "y1", plan.y1_stride, plan.y1_address, plan.y1_wide)
        c = self._offsets(m, nest, plan, "c", plan.c_stride, plan.c_address, plan.c_wide)
        self._transfer(m, nest, plan, self.y_transfer, Mux(second, y1, y0),
                       Mux(second, plan.y1_stride, plan.y0_stride), self.y_wide)
        self._transfer(m, nest, plan, self.c_transfer, c, plan.c_stride, plan.c_wide)
        self._sequence(m, nest, plan, index, instruction, bank)
        m.d.comb += self.released_bank.eq(bank)
        return m

    def _sequence(self, m: Module, nest: Nest, plan, index, instruction, bank) -> None:
        """Block after block, instruction after instruction, pass after pass."""
        run = Signal()
        done = self._beats(m, nest, plan, run, bank)
        y_asked, c_asked = Signal(), Signal()
        whole = nest.chunk_first | ~plan.streamed
        pass_index = _pass_index(m, nest)
        is_last = instruction_field(instruction, "last")
        # A pass must settle before one that may depend on it, or whose settings differ.
        to_buffer = instruction_field(instruction, "destination") == Destination.BUFFER
        flows_on = plan.single & ~to_buffer
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(self.settled), self.i.ready.eq(self.settled)]
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += plan.eq(self.i.payload)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += nest.start.eq(1)
                m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += index.eq(Mux(plan.streamed, pass_index, 0))
                with m.If(nest.idle):
                    m.next = "IDLE"
                with m.Elif(nest.valid & self.bank_ready.bit_select(bank, 1)):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += instruction.eq(plan.instructions.word_select(index, 32))
                m.d.sync += [y_asked.eq(0), c_asked.eq(0)]
                m.next = "REQUEST"
            with m.State("REQUEST"):
                wants_y = self.uses_y & whole & ~y_asked
                wants_c = self.to_memory & whole & ~c_asked
                m.d.comb += [self.y_transfer.valid.eq(wants_y), self.c_transfer.valid.eq(wants_c)]
                with m.If(self.y_transfer.ready):
                    m.d.sync += y_asked.eq(1)
                with m.If(self.c_transfer.ready):
                    m.d.sync += c_asked.eq(1)
                with m.If((~wants_y | self.y_transfer.ready) & (~wants_c | self.c_transfer.ready)):
                    m.d.comb += run.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(done):
                    m.next = "FINISH"
                    with m.If(flows_on):
                        m.d.comb += [self.released.eq(1), nest.next.eq(1)]
                        m.d.sync += bank.eq(~bank)
                        m.next = "BLOCK"
            with m.State("FINISH"):
                with m.If(self.settled | (plan.streamed & ~nest.chunk_last)):
                    with m.If(plan.streamed | is_last):
                        m.d.comb += [self.released.eq(1), nest.next.eq(1)]
                        m.d.sync += bank.eq(~bank)
                        m.next = "BLOCK"
                    with m.Else():
                        m.d.sync += index.eq(index + 1)
                        m.next = "FETCH"


def _pass_index(m: Module, nest: Nest) -> Signal:
    """Which pass over the input this is, counted where the walk advances."""
    index = Signal(range(INSTRUCTIONS))
    with m.If(nest.passes_enter):
        m.d.sync += index.eq(0)
    with m.Elif(nest.passes_advance):
        m.d.sync += index.eq(index + 1)
    return index
