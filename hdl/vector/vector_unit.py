"""The vector unit: L lanes, their row registers and reductions, one vector instruction per pass."""

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.ports.instruction import instruction_field
from hdl.ports.vector import PassControl
from hdl.spec.commands import STAGES, Destination, Operand, Reduce
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import lane_cycles
from hdl.vector.lane import Lane
from hdl.vector.lane_control import LaneControl
from hdl.vector.row_reducer import RowReducer
from hdl.vector.vector_beat import result_layout, side_layout, vector_beat

__all__ = ["VectorUnit"]

_MASK = 0x7F7F  # upper half of the magnitude of the most negative finite BF16; Inf's is the next


class VectorUnit(wiring.Component):
    """Runs one vector instruction over a stream of beats, one beat per cycle.

    Rows' beats arrive contiguously; a row's first beat is that which follows a ``last``. A beat
    leaves ``latency`` cycles later, in order, unless the destination is NONE. A reduction goes to
    the entry of R0 or R1 that the beats' ``row`` names; it may be read once ``idle``. An
    instruction may reduce into the register that it reads: a row is read before it is written.

    A row whose maximum in R0 is at most the most negative finite BF16 (all its words masked) gets
    +0 from EXP where stage 2 takes R0, so that its probabilities are zeros.

    Members
    -------
    control: In(``PassControl``), stable while not ``idle``.
    i: In(stream of ``vector_beat``), accepted whenever the pipeline moves, that is unless ``o`` is
        held.
    o: Out(stream of ``result_layout``), for destinations BUFFER and MEMORY.
    maximum: In, a lane word, R0 of the beat taken last where the control's ``row_maxima`` is set.
    restart: In(1), in a build that trains: pulse while ``idle``, register A becomes +0.
    accumulates, beyond: of fixed lanes (``FixedVectorUnit``).
    idle: Out(1), no beat is inside and every reduction is written.
    beat: Out(1), a beat is accepted in this cycle. stall: Out(1), a beat is held by back-pressure
        on ``o``.

    ``tag``: shape of what goes with a beat unread.
    """

    def __init__(self, config: AcceleratorConfig, tag: ShapeLike):
        self.config = config
        self.tag = tag
        super().__init__({
            "control": In(PassControl(config)), "maximum": In(config.word.bits),
            "i": In(stream.Signature(vector_beat(config, tag))),
            "o": Out(stream.Signature(result_layout(config, tag))),
            "idle": Out(1), "beat": Out(1), "stall": Out(1),
            **({"restart": In(1)} if config.trains else {}),
            **({"accumulates": In(1), "beyond": Out(range(config.lanes + 2))}
               if config.fixed else {}),
        })

    @property
    def _whole(self) -> bool:
        return self.config.squares

    @property
    def latency(self) -> int:
        """Cycles in which the pipeline moves from ``i`` to ``o``: those of a lane."""
        return lane_cycles(self.config)

    def elaborate(self, platform):
        m = Module()
        advance = Signal()
        valid, tags = self._side_band(m, advance)
        destination = self._field("destination")
        m.d.comb += [
            self.o.valid.eq(valid[-1] & (destination != Destination.NONE)),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance),
            self.beat.eq(self.i.valid & advance),
            self.stall.eq(~advance),
        ]

        m.submodules.reduce = reduce = self._reducer()
        registers = self._row_registers(m, reduce, advance)
        if self.config.trains:
            registers.append(self._largest(m, reduce))
        lanes = self._lanes(m, advance, registers)
        tag = tags[-1]
        operation = self._field("reduce")
        is_max = operation == Reduce.MAX
        if self.config.trains:
            m.d.comb += reduce.magnitudes.eq(operation == Reduce.AMAX)
            is_max = is_max | reduce.magnitudes
        elif self.config.scales:
            m.d.comb += reduce.magnitudes.eq(self._field("magnitude"))
        row_ends = tag.last
        if self.config.scales:  # an item of each row is all of it
            row_ends = row_ends | (destination == Destination.SECOND)
        m.d.comb += [
            reduce.valid.eq(valid[-1] & advance & (operation != Reduce.NONE)),
            reduce.is_max.eq(is_max),
            reduce.post.eq(self._field("post")),
            reduce.keep.eq(tag.keep),
            reduce.row.eq(tag.row),
            reduce.last.eq(row_ends),
            self.o.payload.keep.eq(tag.keep),
            self.o.payload.row.eq(tag.row),
            self.o.payload.last.eq(tag.last),
            self.o.payload.tag.eq(tag.tag),
            self.idle.eq(~(valid.any() | reduce.busy)),
        ]
        if self._whole:
            m.d.comb += [reduce.inverse_n.eq(self.control.inverse_n),
                         reduce.epsilon.eq(self.control.epsilon)]
        for number, lane in enumerate(lanes):
            m.d.comb += [
                reduce.data[number].eq(lane.o),
                self.o.payload.data[number].eq(lane.o),
            ]
        self._count(m, valid[-1] & advance, tag, lanes, reduce)
        return m

    def _reducer(self):
        return RowReducer(self.config)

    def _lane(self):
        return Lane(self.config)

    def _count(self, m, leaves, tag, lanes, reduce):
        """Of words that ``leaves`` says to leave; floats have nothing to count."""

    def _field(self, name):
        return instruction_field(self.control.instruction, name)

    def _side_band(self, m, advance):
        """Valid bits and tags alongside the lanes' registers, the entry's first."""
        valid = Signal(self.latency)
        layout = side_layout(self.config, self.tag)
        tags = [Signal(layout, name=f"tag_{stage}", reset_less=True)
                for stage in range(self.latency)]
        payload = self.i.payload
        entering = Signal(layout)
        m.d.comb += [entering[name].eq(payload[name]) for name in layout.members]
        with m.If(advance):
            m.d.sync += valid.eq(Cat(self.i.valid, valid))
            for tag, previous in zip(tags, [entering, *tags], strict=False):
                m.d.sync += tag.eq(previous)
        return valid, tags

    def _row_registers(self, m, reduce, advance):
        """R0 and R1 of the beat in the entry registers."""
        first, second = self._stored_registers(m, reduce, advance)
        return [Mux(self.control.row_maxima, self.maximum, first), second]

    def _stored_registers(self, m, reduce, advance):
        """Of both what reductions left."""
        words = []
        for number in range(2):
            memory = Sram1R1W(len(reduce.result), self.config.row_depth)
            m.submodules[f"r{number}"] = shared(memory)
            m.d.comb += [
                memory.read.address.eq(self.i.payload.row),
                memory.read.enable.eq(advance),
                memory.write.address.eq(reduce.result_row),
                memory.write.data.eq(reduce.result),
                memory.write.enable.eq(
                    reduce.result_valid & (self._field("reduce_to") == number)),
            ]
            words.append(memory.data)
        return words

    def _largest(self, m, reduce):
        """Register A: the largest magnitude that passed since a command that read it.

        A command that reads it does not fill it: for that one it stands still.
        """
        largest = Signal(self.config.lane.bits - 1)
        read = Signal()  # by the running command, or by the one before it
        reads = Cat(self._field(stage) == Operand.A for stage in STAGES).any()
        with m.If(self.beat & reads):
            m.d.sync += read.eq(1)
        with m.If(reduce.beat_valid & (largest < reduce.beat)):
            m.d.sync += largest.eq(reduce.beat)
        with m.If(self.restart | (self.control.begins & read)):
            m.d.sync += [largest.eq(0), read.eq(0)]
        return largest

    def _broadcast(self, m, registers, operand, name):
        """The word that all lanes take, for the beat in the entry registers."""
        fill = Const(0, self.config.lane.bits - 16)
        word = Signal(self.config.lane.bits, name=name)
        with m.Switch(operand):
            with m.Case(Operand.IMM0):
                m.d.comb += word.eq(Cat(fill, self.control.imm0))
            with m.Case(Operand.IMM1):
                m.d.comb += word.eq(Cat(fill, self.control.imm1))
            with m.Case(Operand.R0):
                m.d.comb += word.eq(registers[0])
            with m.Case(Operand.R1):
                m.d.comb += word.eq(registers[1])
            if self.config.trains:
                with m.Case(Operand.A):
                    m.d.comb += word.eq(registers[2])
        return word

    def _delay(self, m, advance, value, cycles):
        for cycle in range(cycles):
            later = Signal.like(value, name=f"{value.name}_{cycle + 1}", reset_less=True)
            with m.If(advance):
                m.d.sync += later.eq(value)
            value = later
        return value

    def _control(self, m, advance, registers):
        maximum = Signal(self.config.lane.bits)
        m.d.comb += maximum.eq(registers[0])
        registers = [maximum, *registers[1:]]
        masked = Signal()
        upper = maximum[-16:-1]
        m.d.comb += masked.eq(
            (self._field("add") == Operand.R0) & maximum[-1]
            & ((upper == _MASK) | (upper == _MASK + 1)))
        stage = self.config.lane_latency
        masked = self._delay(m, advance, masked, 3 * stage - 1)
        return self._common_control(m, advance, registers, masked)

    def _common_control(self, m, advance, registers, masked=0):
        """What all kinds of lanes take."""
        stage = self.config.lane_latency
        control = LaneControl(self.config).create(path=("lane",))
        m.d.comb += [control.subtract.eq(self._field("subtract")),
                     control.function.eq(self._field("function")),
                     control.relu.eq(self._field("relu")), control.masked.eq(masked),
                     control.enable.eq(advance)]
        # A stage's word comes as much later as the stage stands after the first.
        for name, lane_stage, cycles in (("multiply", control.multiply, 0),
                                         ("add", control.add, stage),
                                         ("scale", control.scale, 3 * stage)):
            operand = self._field(name)
            word = self._broadcast(m, registers, operand, f"{name}_word")
            m.d.comb += [lane_stage.on.eq(operand != Operand.NONE),
                         lane_stage.y.eq(operand == Operand.Y),
                         lane_stage.word.eq(self._delay(m, advance, word, cycles))]
            if self._whole and name != "add":
                m.d.comb += lane_stage.self.eq(operand == Operand.SELF)
        return control

    def _lanes(self, m, advance, registers):
        control = self._control(m, advance, registers)
        lanes = []
        for number in range(self.config.lanes):
            lane = self._lane()
            m.submodules[f"lane_{number}"] = shared(lane)
            wiring.connect(m, control, lane.control)
            m.d.comb += [lane.data.eq(self.i.payload.data[number]),
                         lane.y.eq(self.i.payload.y[number])]
            lanes.append(lane)
        return lanes
