"""Draining an accumulation bank: every vector instruction of a command is a pass over the block."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.drain.block_reader import BlockReader, drained_layout
from hdl.drain.strip_transfers import StripTransfers
from hdl.lib.nest import Level, Nest
from hdl.ports.accumulation import BankStates, Release
from hdl.ports.instruction import instruction_field
from hdl.ports.plan import COUNT_BITS, constants, plan_layout
from hdl.ports.sram import SramRead
from hdl.ports.transfer import TRANSFER
from hdl.ports.unit import UnitPort
from hdl.ports.vector import PassControl, Storage
from hdl.spec.commands import INSTRUCTIONS, Destination, Operand, Reduce
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import strip_tiles

__all__ = ["Drain"]


class Drain(wiring.Component):
    """Sequences blocks, chunks, instructions and beats from the accumulation banks to the lanes.

    A bank is read while it is filled where its read port is free: after a load from memory, and
    after a GEMM of one K-tile, there in strips of column tiles if no row is needed whole. Reading
    a block, asking for its Y and C and the next instruction begin while the lanes still work on
    the pass before.

    Members
    -------
    command: In(``UnitPort``).
    banks: In(``BankStates``). released: Out(``Release``), a bank has been drained.
    y_transfer, c_transfer: Out(stream of ``TRANSFER``), to the read and the write engine.
    y, c: Out(``Storage``), constant from the request to the last element.
    control: Out(``PassControl``), of the running pass. uses_y, to_memory: Out(1), so are these.
    transposed: Out(1), C or D is: a pass to memory offers D × D tiles, column tile by column tile;
        constant until ``settled``.
    y_column, y_ends: Out(1), in a build of scales: the running pass takes an item of Y for all of a
        row, and ``beat`` is the last that it is for.
    items: Out(1), in a build of scales: the running pass stores an item of each row to D, of +0 in
        stage 1, side by side as if transposed. It begins and ends while all is ``settled``.
    lane_words: Out(1), the running pass reads lane words, from memory or an earlier pass, not
        accumulators.
    bf16_words: Out(1), of fixed lanes: it reads BF16 words, from memory.
    read: Out(``SramRead``), of the accumulation banks.
    beat: Out(stream of ``drained_layout``), valid with the data that the last read left on the
        port; ``beat.ready`` takes it.
    unit_idle: In(1), the vector unit holds nothing. settled: In(1), nor does anything after it, C
        has it all.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(UnitPort(config)),
            "banks": In(BankStates(config)), "released": Out(Release()),
            "y_transfer": Out(stream.Signature(TRANSFER)),
            "c_transfer": Out(stream.Signature(TRANSFER)),
            "y": Out(Storage()), "c": Out(Storage()), "control": Out(PassControl(config)),
            "uses_y": Out(1), "to_memory": Out(1), "transposed": Out(1), "lane_words": Out(1),
            **({"y_column": Out(1), "y_ends": Out(1), "items": Out(1)} if config.scales else {}),
            **({"bf16_words": Out(1)} if config.fixed else {}),
            "read": Out(SramRead(config.acc_depth, banks=2)),
            "beat": Out(stream.Signature(drained_layout(config))),
            "unit_idle": In(1), "settled": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        plan = Signal(plan_layout(config), reset_less=True)
        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunk", COUNT_BITS)))
        m.submodules.reader = reader = BlockReader(config)
        m.submodules.transfers = transfers = StripTransfers(config)
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(plan.passes), nest.passes_step.eq(1),
            nest.chunk_total.eq(plan.n), nest.chunk_step.eq(plan.chunk),
        ]
        index = Signal(range(INSTRUCTIONS), reset_less=True)
        bank = Signal()
        coming = Signal(32, reset_less=True)  # the instruction that is read and asked for
        self._read(m, nest, plan, reader, coming, bank)
        self._ask(m, nest, plan, transfers, reader.region, coming)
        self._sequence(m, nest, plan, index, coming, bank, reader, transfers)
        uses_y, second = _uses(self.control.instruction)
        to_memory = _goes_to(self.control.instruction, Destination.MEMORY)
        wide, transposed = plan.c_wide, plan.c_transposed
        if config.scales:
            items = self.items
            m.d.comb += items.eq(_goes_to(self.control.instruction, Destination.SECOND))
            to_memory, wide, transposed = to_memory | items, wide | items, transposed | items
            # A streamed row's item is asked for once, others' with every strip.
            row_wise = plan.streamed & ~reader.region.tiled
            m.d.comb += [self.y_column.eq(Mux(second, plan.y1_column, plan.y0_column)),
                         self.y_ends.eq(Mux(row_wise, self.beat.payload.last,
                                            self.beat.payload.tag.row_ends))]
        m.d.comb += [
            self.uses_y.eq(uses_y),
            self.to_memory.eq(to_memory),
            *(getattr(self.control, name).eq(plan[name]) for name in constants(config)),
            self.c.wide.eq(wide), self.c.e5m2.eq(plan.c_e5m2),
            self.transposed.eq(transposed),
            self.released.bank.eq(bank), self.read.bank.eq(bank),
        ]
        return m

    def _read(self, m: Module, nest: Nest, plan, reader, coming, bank) -> None:
        """What the reader walks over."""
        # With more K-tiles than one the array needs the bank's read port to its last word.
        follows, by_strips, tiled, one = Signal(), Signal(), Signal(), Signal()
        tile = self.config.dim
        one_item = plan.row_result & _goes_to(coming, Destination.MEMORY)
        by_tiles = plan.c_transposed & _goes_to(coming, Destination.MEMORY)
        if self.config.scales:
            items = _goes_to(coming, Destination.SECOND)
            one_item, by_tiles = one_item | items, by_tiles | items
        m.d.comb += [
            tiled.eq(by_tiles),
            follows.eq(~plan.gemm | (plan.k <= tile)),
            one.eq(one_item),
            # The array completes column tiles; whatever works on rows needs them whole.
            by_strips.eq(plan.gemm & follows & ~plan.rowwise),
            reader.region.rows.eq(nest.rows_size), reader.region.columns.eq(nest.chunk_size),
            reader.region.tiled.eq(tiled), reader.region.first_column.eq(one),
            reader.region.strip.eq(Mux(tiled, tile, Mux(
                by_strips, strip_tiles(self.config) * tile, plan.chunk))),
            reader.array_fills.eq(plan.gemm), reader.whole_rows.eq(plan.row_max),
            # Words written back must not meet those that still arrive, and a pass over the first
            # column must not leave a bank that is not full.
            reader.follow.eq(follows & ~one & ~_goes_to(coming, Destination.BUFFER)),
            reader.ready.eq(self.banks.ready.bit_select(bank, 1)),
            reader.progress.eq(self.banks.progress[bank]),
            reader.row_goes_on.eq(plan.streamed & ~nest.chunk_last),
            self.read.enable.eq(reader.read.enable), self.read.address.eq(reader.read.address),
        ]
        wiring.connect(m, reader.beat, wiring.flipped(self.beat))

    def _ask(self, m: Module, nest: Nest, plan, transfers, region, coming) -> None:
        """Where the block of Y and C lies; a streamed row is one transfer of all its chunks, if
        it is not cut into tiles."""
        uses_y, second = _uses(coming)
        row_wise = plan.streamed & ~region.tiled
        asks = nest.chunk_first | ~row_wise
        y0 = self._address(m, nest, plan, "y0")
        y1 = self._address(m, nest, plan, "y1")
        c = self._address(m, nest, plan, "c", plan.c_transposed)
        y, wide = Mux(second, y1, y0), plan.c_wide
        stores = _goes_to(coming, Destination.MEMORY)
        if self.config.scales:
            items = _goes_to(coming, Destination.SECOND)
            c = Mux(items, self._items_address(m, nest, plan), c)
            stores, wide = stores | items, wide | items
            y = y + self._following(plan, coming, second)
        m.d.comb += [
            self.y.wide.eq(Mux(second, plan.y1_wide, plan.y0_wide)),
            self.y.e5m2.eq(Mux(second, plan.y1_e5m2, plan.y0_e5m2)),
            transfers.region.eq(region),
            transfers.row_columns.eq(Mux(row_wise, plan.n, 0)),
            transfers.y.wanted.eq(uses_y & asks),
            transfers.y.address.eq(y),
            transfers.y.stride.eq(Mux(second, plan.y1_stride, plan.y0_stride)),
            transfers.y.wide.eq(self.y.wide),
            transfers.c.wanted.eq(stores & asks),
            transfers.c.address.eq(c), transfers.c.stride.eq(plan.c_stride),
            transfers.c.wide.eq(wide), transfers.c.transposed.eq(region.tiled),
        ]
        if self.config.scales:
            m.d.comb += [transfers.y.column.eq(Mux(second, plan.y1_column, plan.y0_column)),
                         transfers.c.column.eq(0)]
        wiring.connect(m, transfers.y_transfer, wiring.flipped(self.y_transfer))
        wiring.connect(m, transfers.c_transfer, wiring.flipped(self.c_transfer))

    def _items_address(self, m: Module, nest: Nest, plan) -> Signal:
        """Byte address of the block's first item of D."""
        address = Signal(64, name="d_address", reset_less=True)
        with m.If(nest.rows_enter):
            m.d.sync += address.eq(plan.c_address + plan.d_offset.as_signed())
        with m.Elif(nest.rows_advance):
            m.d.sync += address.eq(address + (2 << plan.block_log2))
        return address

    def _following(self, plan, coming, second):
        """Bytes from Y to what follows it, where the instruction takes that."""
        element_log2 = log2_exact(self.config.format.storage_bytes)
        column = Mux(second, plan.y1_column, plan.y0_column)
        wide = Mux(second, plan.y1_wide, plan.y0_wide) & (element_log2 == 0)
        items = Mux(column, 1, plan.n) << element_log2
        return Mux(instruction_field(coming, "y_second"), Mux(wide, items << 1, items), 0)

    def _address(self, m: Module, nest: Nest, plan, name: str, transposed=None) -> Signal:
        """Byte address of the current chunk of a matrix."""
        element_log2 = log2_exact(self.config.format.storage_bytes)
        transposed = Const(0) if transposed is None else transposed
        stride, wide = plan[f"{name}_stride"], plan[f"{name}_wide"] & (element_log2 == 0)

        def step(count_log2, lines):
            elements = 1 << count_log2
            return Mux(lines, stride << count_log2,
                       Mux(wide, elements << 1, elements << element_log2))

        row, column = (Signal(64, name=f"{name}_{part}", reset_less=True)
                       for part in ("row", "column"))
        with m.If(nest.rows_enter):
            m.d.sync += row.eq(plan[f"{name}_address"])
        with m.Elif(nest.rows_advance):
            m.d.sync += row.eq(row + step(plan.block_log2, ~transposed))
        with m.If(nest.chunk_enter):
            m.d.sync += column.eq(0)
        with m.Elif(nest.chunk_advance):
            advanced = column + step(plan.chunk_log2, transposed)
            if self.config.scales and name != "c":
                advanced = Mux(plan[f"{name}_column"], column, advanced)
            m.d.sync += column.eq(advanced)
        address = Signal(64, name=f"{name}_address")
        m.d.comb += address.eq(row + column)
        return address

    def _sequence(self, m: Module, nest: Nest, plan, index, coming, bank, reader,
                  transfers) -> None:
        """Block after block, instruction after instruction, pass after pass."""
        # The lanes take the coming instruction when they hold nothing of another.
        switched, fresh = Signal(), Signal()
        row_maxima = Signal()  # of the coming instruction
        replaces_r0 = ((instruction_field(coming, "reduce") != Reduce.NONE)
                       & ~instruction_field(coming, "reduce_to"))
        if self.config.trains:
            replaces_r0 = replaces_r0 & (instruction_field(coming, "reduce") != Reduce.AMAX)
        # The lanes must be empty to change the instruction; where it stays, passes overlap in them.
        changes = fresh | ~(plan.single | (plan.streamed & ~nest.chunk_first))
        pass_index = _pass_index(m, nest)
        leaves_bank = plan.streamed | instruction_field(coming, "last")
        m.d.comb += reader.enable.eq(switched)
        free = self.unit_idle
        if self.config.scales:
            # What is stored otherwise than before begins when nothing of that is left.
            free = Mux(self.items | _goes_to(coming, Destination.SECOND), self.settled, free)

        def advance():
            with m.If(leaves_bank):
                m.d.comb += [self.released.valid.eq(1), nest.next.eq(1)]
                m.d.sync += bank.eq(~bank)
                m.next = "BLOCK"
            with m.Else():
                m.d.sync += [index.eq(index + 1), row_maxima.eq(row_maxima & ~replaces_r0)]
                m.next = "FETCH"

        with m.FSM():
            self._plan_states(m, nest, plan, fresh)
            with m.State("BLOCK"):
                m.d.sync += [index.eq(Mux(plan.streamed, pass_index, 0)),
                             self.lane_words.eq(~plan.gemm), row_maxima.eq(plan.row_max)]
                if self.config.fixed:
                    m.d.sync += self.bf16_words.eq(~plan.gemm)
                with m.If(nest.idle):
                    m.next = "IDLE"
                with m.Elif(nest.valid):
                    m.next = "FETCH"
            # Selected into a register, so that its fields are available at once in the states that
            # follow.
            with m.State("FETCH"):
                m.d.sync += coming.eq(plan.instructions.word_select(index, 32))
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += [reader.start.eq(1), transfers.start.eq(1)]
                m.d.sync += [switched.eq(~changes), fresh.eq(0)]
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(~switched & free):
                    m.d.sync += [switched.eq(1), self.control.instruction.eq(coming),
                                 self.control.row_maxima.eq(row_maxima)]
                with m.If((reader.done | ~reader.busy) & ~transfers.busy):
                    with m.If(_goes_to(coming, Destination.BUFFER)):
                        m.next = "STORE"
                    with m.Else():
                        advance()
            with m.State("STORE"):
                # The bank's words are those of this pass only when the lanes hold none of them.
                with m.If(self.unit_idle):
                    m.d.sync += self.lane_words.eq(1)
                    if self.config.fixed:
                        m.d.sync += self.bf16_words.eq(0)
                    advance()

    def _plan_states(self, m: Module, nest: Nest, plan, fresh) -> None:
        """Take a plan once all results of the one before have reached memory."""
        offered = self.command.plan
        with m.State("IDLE"):
            m.d.comb += [self.command.idle.eq(self.settled), offered.ready.eq(self.settled)]
            m.d.sync += fresh.eq(1)
            with m.If(offered.valid & offered.ready):
                m.d.sync += plan.eq(offered.payload)
                m.next = "START"
        with m.State("START"):
            m.d.comb += nest.start.eq(1)
            if self.config.trains:
                m.d.comb += self.control.begins.eq(1)
            m.next = "BLOCK"


def _uses(instruction) -> tuple:
    """Whether a stage takes Y, and whether that is Y1."""
    taken = [instruction_field(instruction, stage) == Operand.Y
             for stage in ("multiply", "add", "scale")]
    return taken[0] | taken[1] | taken[2], instruction_field(instruction, "y")


def _goes_to(instruction, destination: Destination):
    return instruction_field(instruction, "destination") == destination


def _pass_index(m: Module, nest: Nest) -> Signal:
    """Which pass over the input this is, counted where the walk advances."""
    index = Signal(range(INSTRUCTIONS))
    with m.If(nest.passes_enter):
        m.d.sync += index.eq(0)
    with m.Elif(nest.passes_advance):
        m.d.sync += index.eq(index + 1)
    return index
