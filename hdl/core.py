"""The datapath between the memory engines: banks, array, vector unit and what drives them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.accumulate.accumulation_banks import AccumulationBanks
from hdl.accumulate.accumulation_buffer import AccumulationBuffer, lane_to_accumulator
from hdl.accumulate.row_maximum import RowMaximum, maximum_layout
from hdl.arith.accumulator import accumulator_round
from hdl.array.array import Array
from hdl.bus.transfer import TRANSFER
from hdl.drain.drain import Drain
from hdl.feed.feeder import Feeder
from hdl.feed.weight_shifter import WeightShifter
from hdl.lib.chunk import Resizer, chunk_layout
from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.load.operand_loader import OperandLoader
from hdl.load.weight_loader import WeightLoader
from hdl.ports.plan import constants, plan_layout
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import INPUT_READ_CYCLES, UNITS
from hdl.vector.fetch import FetchPort
from hdl.vector.output import Output
from hdl.vector.turn import Turn
from hdl.vector.unit import VectorUnit

__all__ = ["CORE_COUNTERS", "Core"]

CORE_COUNTERS = ("tiles", "array_rows", "stall_input", "stall_weight", "stall_accumulator",
                 "vector_beats", "stall_vector", "stall_operand", "saturations", "nars")


class Core(wiring.Component):
    """Executes the plans that a sequencer hands to its four units.

    Ports
    -----
    plan; {unit}_valid, {unit}_ready, {unit}_idle; filling, index_failed: see ``Sequencer``.
    {reader}_transfer, {reader}_chunks: clients operands, weights and y of the read engine.
    c_transfer, c_chunks: to the write engine.
    operands_urgent, weights_urgent: the array waits, or soon does, for what that client reads.
    weights_granted: pulse, a burst of weights is requested.
    count_{name}: increments of the counters in ``CORE_COUNTERS``.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        transfers = stream.Signature(TRANSFER)
        chunks = stream.Signature(chunk_layout(config.bus_bytes))
        members = {"plan": In(plan_layout(config)), "filling": Out(1), "index_failed": Out(1),
                   "c_transfer": Out(transfers), "c_chunks": Out(chunks)}
        for unit in UNITS:
            members |= {f"{unit}_valid": In(1), f"{unit}_ready": Out(1), f"{unit}_idle": Out(1)}
        for reader in ("operands", "weights", "y"):
            members |= {f"{reader}_transfer": Out(transfers), f"{reader}_chunks": In(chunks)}
        members |= {"operands_urgent": Out(1), "weights_urgent": Out(1),
                    "weights_granted": In(1)}
        members |= {f"count_{name}": Out(8) for name in CORE_COUNTERS}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.operands = operands = OperandLoader(config)
        m.submodules.weights = weights = WeightLoader(config)
        m.submodules.shifter = shifter = WeightShifter(config)
        m.submodules.feeder = feeder = Feeder(config)
        m.submodules.drain = drain = Drain(config)
        m.submodules.array = array = Array(config)
        m.submodules.accumulation = accumulation = AccumulationBuffer(config)
        for unit, component in zip(UNITS, (operands, weights, feeder, drain), strict=True):
            m.d.comb += [
                component.i.payload.eq(self.plan),
                component.i.valid.eq(getattr(self, f"{unit}_valid")),
                getattr(self, f"{unit}_ready").eq(component.i.ready),
                getattr(self, f"{unit}_idle").eq(component.idle),
            ]
        m.d.comb += [
            self.filling.eq(operands.filling), self.index_failed.eq(operands.index_failed),
            self.count_tiles.eq(feeder.tile), self.count_array_rows.eq(feeder.row),
            self.count_stall_input.eq(feeder.stall_input),
            self.count_stall_weight.eq(feeder.stall_weight),
            self.count_stall_accumulator.eq(feeder.stall_accumulator),
        ]
        self._urgency(m, feeder, shifter)
        self._reader(m, "operands", operands.transfer, operands.chunks, config.word_bytes)
        self._reader(m, "weights", weights.transfer, weights.chunks, config.word_bytes)
        self._inputs(m, operands, feeder, array)
        self._weights(m, weights, shifter, feeder, array)
        maximum = self._accumulators(m, operands, feeder, array, accumulation, drain)
        self._vector(m, drain, accumulation, maximum)
        return m

    def _urgency(self, m: Module, feeder, shifter) -> None:
        """A tile cannot start without weights; once its lines are asked for, its rows matter."""
        asked = Signal(range(self.config.dim + 1))
        with m.If(~shifter.starved):
            m.d.sync += asked.eq(0)
        with m.Elif(self.weights_granted & (asked != self.config.dim)):
            m.d.sync += asked.eq(asked + 1)
        m.d.comb += [
            self.weights_urgent.eq(shifter.starved & (asked != self.config.dim)
                                   & ~feeder.hungry),
            self.operands_urgent.eq(feeder.hungry | (feeder.lacking & ~self.weights_urgent)),
        ]

    def _reader(self, m: Module, name: str, transfer, chunks, width: int) -> None:
        """Join a unit to its client of the read engine, changing the width of its chunks."""
        resizer = Resizer(self.config.bus_bytes, width)
        m.submodules[f"resizer_{name}"] = resizer
        wiring.connect(m, transfer, wiring.flipped(getattr(self, f"{name}_transfer")))
        wiring.connect(m, wiring.flipped(getattr(self, f"{name}_chunks")), resizer.i)
        wiring.connect(m, resizer.o, chunks)

    def _inputs(self, m: Module, operands, feeder, array) -> None:
        """Two input banks between their loader and the array's left edge."""
        config = self.config
        read_bank = Signal()
        m.d.sync += read_bank.eq(feeder.read_bank)
        m.d.comb += [
            feeder.loaded0.eq(operands.loaded0), feeder.loaded1.eq(operands.loaded1),
            operands.released.eq(feeder.released),
            operands.released_bank.eq(feeder.released_bank),
            array.x_e5m2.eq(feeder.e5m2),
        ]
        words = []
        for bank in range(2):
            sram = Sram1R1W(8 * config.word_bytes, config.input_depth)
            m.submodules[f"input{bank}"] = shared(sram)
            m.d.comb += [
                sram.write_enable.eq(operands.write_valid & (operands.write_bank == bank)),
                sram.write_address.eq(operands.write_address),
                sram.write_data.eq(operands.write_data),
                sram.read_enable.eq(feeder.read_enable & (feeder.read_bank == bank)),
                sram.read_address.eq(feeder.read_address),
            ]
            words.append(sram.read_data)
        m.d.comb += array.x.eq(Mux(read_bank, words[1], words[0]))

    def _weights(self, m: Module, weights, shifter, feeder, array) -> None:
        """The weight buffer, its two halves filled and read in turn, and the array's top edge."""
        config = self.config
        sram = Sram1R1W(8 * config.word_bytes, config.weight_depth)
        m.submodules.weight_buffer = shared(sram)
        swap = Signal()
        m.d.sync += swap.eq(feeder.swap)
        m.d.comb += [
            sram.write_enable.eq(weights.write_valid),
            sram.write_address.eq(weights.write_address),
            sram.write_data.eq(weights.write_data),
            sram.read_enable.eq(shifter.read_enable), sram.read_address.eq(shifter.read_address),
            weights.released.eq(shifter.released),
            weights.released_half.eq(shifter.released_half), shifter.held.eq(weights.held),
            shifter.rows0.eq(weights.rows0), shifter.rows1.eq(weights.rows1),
            feeder.ready.eq(shifter.ready), shifter.swap.eq(feeder.swap),
            array.swap.eq(swap), array.w.eq(Mux(shifter.mask, sram.read_data, 0)),
            array.w_e5m2.eq(shifter.e5m2),
            array.load_down.eq(shifter.load_down), array.load_right.eq(shifter.load_right),
        ]
        for half in range(2):
            m.d.comb += [getattr(shifter, f"panel_{name}{half}").eq(
                getattr(weights, f"panel_{name}{half}"))
                for name in ("k", "n", "transposed", "e5m2")]

    def _accumulators(self, m: Module, operands, feeder, array, accumulation,
                      drain) -> RowMaximum:
        """Banks pass from whoever fills them, array or loader, to the drain and back."""
        # A token takes the cycle of the input bank's read, then the array's latency.
        width = len(feeder.token.as_value())
        line = Signal((INPUT_READ_CYCLES + array.latency) * width)
        m.d.sync += line.eq(Cat(feeder.token, line[:-width]))
        arrived = Signal.like(feeder.token, name="arrived")
        m.submodules.banks = banks = AccumulationBanks(self.config)
        m.submodules.row_maximum = maximum = RowMaximum(self.config)
        done = maximum.word_mark
        setting = Signal(data.ArrayLayout(maximum_layout(self.config), 2), reset_less=True)
        m.d.comb += maximum.setting.eq(setting)
        m.d.comb += [
            arrived.as_value().eq(line[-width:]),
            accumulation.tile.eq(array.o),
            accumulation.tile_valid.eq(arrived.valid), accumulation.tile_bank.eq(arrived.bank),
            accumulation.tile_address.eq(arrived.address),
            accumulation.tile_first.eq(arrived.first), accumulation.tile_mark.eq(arrived.mark),
            accumulation.fill_valid.eq(operands.fill_valid),
            accumulation.fill_bank.eq(operands.fill_to),
            accumulation.fill_address.eq(operands.fill_address),
            accumulation.fill_data.eq(operands.fill_data),
            banks.claim.eq(feeder.fill_claim | operands.fill_claim),
            feeder.fill_bank.eq(banks.fill_bank), operands.fill_bank.eq(banks.fill_bank),
            feeder.fill_free.eq(banks.fill_free), operands.fill_free.eq(banks.fill_free),
            banks.released.eq(drain.released), banks.released_bank.eq(drain.released_bank),
            maximum.valid.eq(accumulation.done_valid & accumulation.done_mark.final),
            maximum.bank.eq(accumulation.done_bank), maximum.mark.eq(accumulation.done_mark),
            maximum.total.eq(accumulation.done_total),
            # A word may be read when the maximum that it completes can be.
            banks.from_array.valid.eq(maximum.word_valid),
            banks.from_array.bank.eq(maximum.word_bank), banks.from_array.line_ends.eq(done.ends),
            banks.from_array.complete.eq(done.closing & done.ends),
            banks.from_loader.valid.eq(operands.fill_valid),
            banks.from_loader.bank.eq(operands.fill_to),
            banks.from_loader.complete.eq(operands.fill_done),
            drain.bank_ready.eq(banks.ready), drain.progress.eq(banks.progress),
        ]
        with m.If(feeder.fill_claim):
            m.d.sync += setting[banks.fill_bank].eq(feeder.maximum)
        return maximum

    def _vector(self, m: Module, drain, accumulation, maximum) -> None:
        """From an accumulation bank, with Y beside, into the lanes."""
        config = self.config
        lanes = config.lanes
        beat = drain.beat.payload
        # A result's address: part of a word, word, whether the row ends.
        unit = VectorUnit(config, len(beat.group) + len(beat.address) + 1)
        m.submodules.unit = unit
        m.submodules.fetch_y = fetch = FetchPort(config, lanes)
        self._reader(m, "y", drain.y_transfer, fetch.i, lanes * config.format.storage_bytes)
        self._results(m, drain, accumulation, unit)
        part = accumulation.drain_data.word_select(beat.group, lanes * config.acc_bits)
        with_y = Signal()
        m.d.comb += [
            accumulation.drain_enable.eq(drain.read_enable),
            accumulation.drain_bank.eq(drain.read_bank),
            accumulation.drain_address.eq(drain.read_address),
            unit.instruction.eq(drain.instruction),
            *(getattr(unit, name).eq(getattr(drain, name)) for name in constants(config)),
            unit.row_maxima.eq(drain.row_maxima), unit.maximum.eq(maximum.maximum),
            maximum.read_enable.eq(unit.i.ready), maximum.read_bank.eq(drain.read_bank),
            maximum.read_row.eq(beat.row),
            fetch.wide.eq(drain.y_wide), fetch.e5m2.eq(drain.y_e5m2),
            with_y.eq(~drain.uses_y | fetch.o.valid),
            unit.i.valid.eq(drain.beat.valid & with_y),
            drain.beat.ready.eq(unit.i.ready & with_y),
            fetch.o.ready.eq(unit.i.ready & drain.beat.valid & drain.uses_y),
            unit.i.payload.keep.eq(beat.keep), unit.i.payload.row.eq(beat.row),
            unit.i.payload.last.eq(beat.last),
            unit.i.payload.address.eq(Cat(beat.group, beat.address, beat.row_last)),
            unit.i.payload.y.eq(fetch.o.payload.data),
            self.count_vector_beats.eq(unit.beat), self.count_stall_vector.eq(unit.stall),
            self.count_stall_operand.eq(drain.beat.valid & ~with_y),
        ]
        part_word = Signal(lanes * config.acc_bits)
        m.d.comb += part_word.eq(part)
        for lane in range(lanes):
            rounder = accumulator_round(config)
            m.submodules[f"round{lane}"] = shared(rounder)
            m.d.comb += [rounder.value.eq(part_word.word_select(lane, config.acc_bits)),
                         unit.i.payload.data[lane].eq(rounder.result)]
            if config.acc == "exact":
                m.d.comb += rounder.is_lane_word.eq(drain.lane_words)

    def _results(self, m: Module, drain, accumulation, unit) -> None:
        """From the lanes back to the bank, or as they are or turned to memory."""
        config = self.config
        lanes = config.lanes
        group_bits = len(drain.beat.payload.group)
        m.submodules.turn = turn = Turn(config, unit.address_bits)
        m.submodules.output = output = Output(config, unit.address_bits)
        resizer = Resizer(lanes * config.format.storage_bytes, config.bus_bytes)
        m.submodules.resizer_c = resizer
        wiring.connect(m, drain.c_transfer, wiring.flipped(self.c_transfer))
        wiring.connect(m, output.o, resizer.i)
        wiring.connect(m, resizer.o, wiring.flipped(self.c_chunks))

        result = unit.o.payload
        group, address = result.address[:group_bits], result.address[group_bits:-1]
        stored = Signal()  # what takes a result that goes to memory
        m.d.comb += [
            output.wide.eq(drain.c_wide), output.e5m2.eq(drain.c_e5m2),
            turn.i.payload.eq(result), turn.group.eq(group),
            turn.row_last.eq(result.address[-1]),
            turn.i.valid.eq(unit.o.valid & drain.to_memory & drain.turned),
            output.i.valid.eq(Mux(drain.turned, turn.o.valid, unit.o.valid & drain.to_memory)),
            output.i.payload.eq(Mux(drain.turned, turn.o.payload, result)),
            turn.o.ready.eq(output.i.ready & drain.turned),
            stored.eq(Mux(drain.turned, turn.i.ready, output.i.ready)),
            unit.o.ready.eq(~drain.to_memory | stored),
            accumulation.store_valid.eq(unit.o.valid & ~drain.to_memory),
            accumulation.store_bank.eq(drain.read_bank),
            accumulation.store_group.eq(group), accumulation.store_address.eq(address),
            accumulation.store_data.eq(Cat(
                lane_to_accumulator(config, result.data[lane]) for lane in range(lanes))),
            drain.unit_idle.eq(unit.idle),
            drain.settled.eq(unit.idle & turn.idle & output.idle),
            self.count_saturations.eq(output.saturated), self.count_nars.eq(output.nars),
        ]
