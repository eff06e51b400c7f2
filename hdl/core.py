"""The datapath between the memory engines: banks, array, vector unit and what drives them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.accumulate.accumulation_banks import AccumulationBanks
from hdl.accumulate.accumulation_buffer import AccumulationBuffer, lane_to_accumulator
from hdl.accumulate.row_maximum import RowMaximum
from hdl.arith.accumulator_round import accumulator_round
from hdl.arith.fixed_codec import FixedEntry
from hdl.array.array import Array
from hdl.drain.drain import Drain
from hdl.feed.feeder import Feeder
from hdl.feed.weight_shifter import WeightShifter
from hdl.lib.banked_sram import BankedSram
from hdl.lib.leaf import shared
from hdl.lib.resizer import Resizer
from hdl.lib.sram import Sram1R1W
from hdl.load.operand_loader import OperandLoader
from hdl.load.weight_loader import WeightLoader
from hdl.ports.accumulation import maximum_layout, row_token
from hdl.ports.counts import Counts
from hdl.ports.memory import ReadClient, WritePort
from hdl.ports.unit import UnitPorts
from hdl.ports.vector import result_tag
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import INPUT_READ_CYCLES, bank_cycles, round_cycles
from hdl.vector.fetch_port import FetchPort
from hdl.vector.fixed_vector_unit import FixedVectorUnit
from hdl.vector.result_transposer import ResultTransposer
from hdl.vector.store_port import StorePort
from hdl.vector.vector_unit import VectorUnit

__all__ = ["Core"]


class Core(wiring.Component):
    """Executes the plans that a sequencer hands to its four units.

    Members
    -------
    units: In(``UnitPorts``). filling, index_failed: Out(1), see ``Sequencer``.
    operands, weights, y: Out(``ReadClient``).
    results: Out(``WritePort``).
    counts: Out(``Counts``).
    starts: In(1), in a build that trains: pulse, a program starts.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        reads = ReadClient(config.bus_bytes)
        super().__init__({
            "units": In(UnitPorts(config)), "filling": Out(1), "index_failed": Out(1),
            "operands": Out(reads), "weights": Out(reads), "y": Out(reads),
            "results": Out(WritePort(config.bus_bytes)), "counts": Out(Counts("core")),
            **({"starts": In(1)} if config.trains else {}),
        })

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
        wiring.connect(m, wiring.flipped(self.units.operands), operands.command)
        wiring.connect(m, wiring.flipped(self.units.weights), weights.command)
        wiring.connect(m, wiring.flipped(self.units.feeder), feeder.command)
        wiring.connect(m, wiring.flipped(self.units.drain), drain.command)
        m.d.comb += [
            self.filling.eq(operands.filling), self.index_failed.eq(operands.index_failed),
            self.counts.tiles.eq(feeder.tile), self.counts.array_rows.eq(feeder.row),
            self.counts.stall_input.eq(feeder.stall_input),
            self.counts.stall_weight.eq(feeder.stall_weight),
            self.counts.stall_accumulator.eq(feeder.stall_accumulator),
        ]
        self._urgency(m, feeder, shifter)
        memory, rows = operands.memory, config.word_bytes
        self._reader(m, "operands", self.operands, memory.transfer, memory.beats, rows)
        memory = weights.memory
        self._reader(m, "weights", self.weights, memory.transfer, memory.beats, rows)
        self._inputs(m, operands, feeder, array)
        self._weights(m, weights, shifter, feeder, array)
        maximum = self._accumulators(m, operands, feeder, array, accumulation, drain)
        self._vector(m, drain, accumulation, maximum)
        return m

    def _urgency(self, m: Module, feeder: Feeder, shifter: WeightShifter) -> None:
        """A tile cannot start without weights; once its lines are asked for, its rows matter.

        While the shifter starves, a tile's D lines are D bursts at most: after as many grants they
        are in flight, and weights that were prefetched may no longer keep the rows waiting.
        A feeder that lacks rows for a tile at work comes before weights for the next one.
        """
        asked = Signal(range(self.config.dim + 1))  # bursts of weights since they were lacking
        with m.If(~shifter.starved):
            m.d.sync += asked.eq(0)
        with m.Elif(self.weights.granted & (asked != self.config.dim)):
            m.d.sync += asked.eq(asked + 1)
        m.d.comb += [
            self.weights.urgent.eq(shifter.starved & (asked != self.config.dim)
                                   & ~feeder.hungry),
            self.operands.urgent.eq(feeder.hungry | (feeder.lacking & ~self.weights.urgent)),
        ]

    def _reader(self, m: Module, name: str, client: wiring.PureInterface, transfer, beats,
                nbytes: int) -> None:
        """Join a unit's requests and its beats of ``nbytes`` to a client of the read engine."""
        resizer = Resizer(self.config.bus_bytes, nbytes)
        m.submodules[f"resizer_{name}"] = resizer
        wiring.connect(m, transfer, wiring.flipped(client.transfer))
        wiring.connect(m, wiring.flipped(client.beats), resizer.i)
        wiring.connect(m, resizer.o, beats)

    def _inputs(self, m: Module, operands: OperandLoader, feeder: Feeder, array: Array) -> None:
        """Two input banks between their loader and the array's left edge."""
        config = self.config
        inputs = BankedSram(8 * config.word_bytes, config.input_depth)
        m.submodules.inputs = inputs
        wiring.connect(m, operands.input, inputs.write)
        wiring.connect(m, feeder.read, inputs.read)
        wiring.connect(m, feeder.released, operands.released)
        m.d.comb += [feeder.loaded.eq(operands.loaded), array.x.eq(inputs.data),
                     array.x_e5m2.eq(feeder.e5m2)]

    def _weights(self, m: Module, weights: WeightLoader, shifter: WeightShifter, feeder: Feeder,
                 array: Array) -> None:
        """The weight buffer, a double buffer of two halves, and the array's top edge."""
        config = self.config
        sram = Sram1R1W(8 * config.word_bytes, config.weight_depth)
        m.submodules.weight_buffer = shared(sram)
        wiring.connect(m, weights.write, sram.write)
        wiring.connect(m, shifter.read, sram.read)
        wiring.connect(m, weights.halves, shifter.halves)
        swap = Signal()  # the operand rows take as long through their bank
        m.d.sync += swap.eq(feeder.swap)
        m.d.comb += [
            feeder.ready.eq(shifter.ready), shifter.swap.eq(feeder.swap),
            array.swap.eq(swap), array.w.eq(Mux(shifter.mask, sram.data, 0)),
            array.w_e5m2.eq(shifter.e5m2),
            array.load_down.eq(shifter.load_down), array.load_right.eq(shifter.load_right),
        ]

    def _accumulators(self, m: Module, operands: OperandLoader, feeder: Feeder, array: Array,
                      accumulation: AccumulationBuffer, drain: Drain) -> RowMaximum:
        """Banks pass from whoever fills them, array or loader, to the drain and back."""
        # A token takes the cycle of the input bank's read, then the array's latency.
        tokens = Signal(data.ArrayLayout(row_token(self.config),
                                         INPUT_READ_CYCLES + array.latency))
        m.d.sync += tokens.eq(Cat(feeder.token, tokens))
        m.submodules.banks = banks = AccumulationBanks(self.config)
        m.submodules.row_maximum = maximum = RowMaximum(self.config)
        wiring.connect(m, feeder.fill, banks.feeder)
        wiring.connect(m, operands.fill, banks.loader)
        wiring.connect(m, drain.released, banks.released)
        wiring.connect(m, banks.states, drain.banks)
        wiring.connect(m, operands.accumulators, accumulation.fill)
        wiring.connect(m, accumulation.totals, maximum.totals)
        setting = Signal(data.ArrayLayout(maximum_layout(self.config), 2), reset_less=True)
        m.d.comb += [
            accumulation.tile.eq(array.o), accumulation.token.eq(tokens[-1]),
            # A word may be read when the maximum that it completes can be.
            banks.from_array.eq(maximum.arrival), banks.from_loader.eq(operands.arrival),
            maximum.setting.eq(setting),
        ]
        with m.If(feeder.fill.claim):
            m.d.sync += setting[feeder.fill.bank].eq(feeder.maximum)
        return maximum

    def _vector(self, m: Module, drain: Drain, accumulation: AccumulationBuffer,
                maximum: RowMaximum) -> None:
        """From an accumulation bank, together with Y, into the lanes."""
        config = self.config
        lanes = config.lanes
        m.submodules.unit = unit = (FixedVectorUnit if config.fixed else VectorUnit)(
            config, result_tag(config))
        self._entering = Signal(name="beat_entering")  # between a bank and the lanes
        m.submodules.fetch_y = fetch = FetchPort(config, lanes)
        self._reader(m, "y", self.y, drain.y_transfer, fetch.i,
                     lanes * config.format.storage_bytes)
        self._results(m, drain, accumulation, unit)
        wiring.connect(m, drain.control, unit.control)
        wiring.connect(m, drain.y, fetch.storage)
        wiring.connect(m, drain.read, accumulation.drain)
        if config.trains:
            m.d.comb += unit.restart.eq(self.starts)
        beat, entering = drain.beat.payload, unit.i.payload
        with_y = Signal()
        y, takes_y = fetch.o.payload.data, unit.i.ready & drain.beat.valid & drain.uses_y
        if config.scales:
            item = Signal.like(y[0], name="y_item")
            m.d.comb += item.eq(y[0])
            y = Mux(drain.y_column, item.replicate(lanes), y.as_value())
            takes_y = takes_y & (~drain.y_column | drain.y_ends)
        part = Signal(lanes * config.acc_bits)
        enters, bank, words = drain.beat.valid & with_y, drain.read.bank, part
        if bank_cycles(config):
            enters, bank, beat, y, words = self._staged(m, unit, "staged", enters, bank, beat, y,
                                                        part)
            inside = enters
            if round_cycles(config):
                enters, bank, beat, y = self._staged(m, unit, "rounding", enters, bank, beat, y)
                inside = inside | enters
            m.d.comb += self._entering.eq(inside)
        m.d.comb += [
            unit.maximum.eq(maximum.maximum),
            maximum.read.enable.eq(unit.i.ready), maximum.read.bank.eq(bank),
            maximum.read.address.eq(beat.row),
            with_y.eq(~drain.uses_y | fetch.o.valid),
            unit.i.valid.eq(enters),
            drain.beat.ready.eq(unit.i.ready & with_y),
            fetch.o.ready.eq(takes_y),
            entering.keep.eq(beat.keep), entering.row.eq(beat.row), entering.last.eq(beat.last),
            entering.tag.eq(beat.tag), entering.y.eq(y),
            self.counts.vector_beats.eq(unit.beat), self.counts.stall_vector.eq(unit.stall),
            self.counts.stall_operand.eq(drain.beat.valid & ~with_y),
        ]
        m.d.comb += part.eq(accumulation.drained.word_select(drain.beat.payload.tag.part,
                                                             len(part)))
        (self._fixed_words if config.fixed else self._rounded_words)(m, drain, words, unit)

    def _rounded_words(self, m: Module, drain: Drain, part: Signal, unit: VectorUnit) -> None:
        """What lanes of floats take of a bank: its words, rounded."""
        config = self.config
        for lane in range(config.lanes):
            rounder = accumulator_round(config)
            m.submodules[f"round{lane}"] = shared(rounder)
            word = Mux(drain.items, 0, rounder.result) if config.scales else rounder.result
            m.d.comb += [rounder.value.eq(part.word_select(lane, config.acc_bits)),
                         unit.i.payload.data[lane].eq(word)]
            if config.exact_sums:
                m.d.comb += rounder.is_lane_word.eq(drain.lane_words)
            if round_cycles(config):
                m.d.comb += rounder.enable.eq(unit.i.ready)

    def _fixed_words(self, m: Module, drain: Drain, part: Signal, unit: FixedVectorUnit) -> None:
        """What fixed lanes take of a bank: accumulators and words as they are."""
        m.d.comb += unit.accumulates.eq(~drain.lane_words)
        for lane in range(self.config.lanes):
            entry, word = FixedEntry(), part.word_select(lane, self.config.acc_bits)
            m.submodules[f"entry{lane}"] = shared(entry)
            m.d.comb += [
                entry.value.eq(word),
                unit.i.payload.data[lane].eq(Mux(drain.items, 0, Mux(
                    drain.bf16_words, entry.result, word))),
            ]

    def _staged(self, m: Module, unit: VectorUnit, name: str, enters, *values) -> tuple:
        """A beat and what goes with it, from registers between the banks and the lanes, which move
        with these."""
        valid = Signal(name=f"{name}_valid")
        staged = [Signal.like(value, name=f"{name}_{number}", reset_less=True)
                  for number, value in enumerate(values)]
        with m.If(unit.i.ready):
            m.d.sync += valid.eq(enters)
            m.d.sync += [later.eq(value) for later, value in zip(staged, values, strict=True)]
        return valid, *staged

    def _results(self, m: Module, drain: Drain, accumulation: AccumulationBuffer,
                 unit: VectorUnit) -> None:
        """From the lanes back to the bank, or to memory, as they are or transposed."""
        config = self.config
        lanes = config.lanes
        m.submodules.transposer = transposer = ResultTransposer(config)
        m.submodules.store = store = StorePort(config, result_tag(config))
        resizer = Resizer(lanes * config.format.storage_bytes, config.bus_bytes)
        m.submodules.resizer_c = resizer
        wiring.connect(m, drain.c_transfer, wiring.flipped(self.results.transfer))
        wiring.connect(m, drain.c, store.storage)
        wiring.connect(m, store.o, resizer.i)
        wiring.connect(m, resizer.o, wiring.flipped(self.results.beats))

        result, back = unit.o.payload, accumulation.store
        idle = unit.idle & ~self._entering if bank_cycles(config) else unit.idle
        stored = Signal()  # what takes a result that goes to memory
        m.d.comb += [
            transposer.i.payload.eq(result),
            transposer.i.valid.eq(unit.o.valid & drain.to_memory & drain.transposed),
            store.i.valid.eq(Mux(drain.transposed, transposer.o.valid,
                                 unit.o.valid & drain.to_memory)),
            store.i.payload.eq(Mux(drain.transposed, transposer.o.payload, result)),
            transposer.o.ready.eq(store.i.ready & drain.transposed),
            stored.eq(Mux(drain.transposed, transposer.i.ready, store.i.ready)),
            unit.o.ready.eq(~drain.to_memory | stored),
            back.enable.eq(unit.o.valid & ~drain.to_memory), back.bank.eq(drain.read.bank),
            back.part.eq(result.tag.part), back.address.eq(result.tag.address),
            back.data.eq(Cat(lane_to_accumulator(config, word) for word in result.data)),
            drain.unit_idle.eq(idle),
            drain.settled.eq(idle & transposer.idle & store.idle),
            self.counts.saturations.eq(store.saturated + unit.beyond if config.fixed
                                       else store.saturated),
            self.counts.nars.eq(store.nars),
        ]
