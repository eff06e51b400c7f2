"""What makes a program header or a command invalid, decided before anything moves.

``hdl.spec`` says where a field lies and how its values are numbered; what must hold of them is
written here by hand, as a second statement next to the rules of ``hdl.spec.command_fields``, by
which the reference model decides. ``tests/hdl/issue/test_command_rules.py`` holds one against the
other, field by field.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.instruction import instruction_field
from hdl.spec.commands import (
    COMMAND,
    HEADER,
    INSTRUCTION,
    INSTRUCTIONS,
    ISA_MAJOR,
    MAGIC,
    Destination,
    ErrorCause,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
    features_of,
    isa_minor,
    reserved_mask,
)
from hdl.spec.config import COUNT_BITS, AcceleratorConfig

__all__ = ["CommandCheck", "HeaderCheck", "first_cause"]


def first_cause(m: Module, cause: Signal, failed: Signal, *rows) -> None:
    """Assign the first (ErrorCause, condition) of ``rows`` that holds."""
    chain = None
    for code, condition in rows:
        chain = m.If(condition) if chain is None else m.Elif(condition)
        with chain:
            m.d.comb += [cause.eq(code), failed.eq(1)]


def _any(conditions):
    return Cat(conditions).any()


class HeaderCheck(wiring.Component):
    """Combinational check of a header. Ports: ``record``, 512 bits; ``failed``, ``cause``;
    ``commands``, the number of commands announced; in a build that trains ``scalars``, 64 bits, the
    address of their table."""

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({"record": In(512), "failed": Out(1), "cause": Out(ErrorCause),
                          "commands": Out(32),
                          **({"scalars": Out(64)} if config.trains else {})})

    def elaborate(self, platform):
        m = Module()

        def field(name):
            row = HEADER[name]
            return self.record[row.offset : row.offset + row.bits]

        lacking = ~int(features_of(self.config)) & 0xFFFFFFFF
        m.d.comb += self.commands.eq(field("commands"))
        if self.config.trains:
            m.d.comb += self.scalars.eq(field("scalars"))
        first_cause(
            m, self.cause, self.failed,
            (ErrorCause.BAD_MAGIC, field("magic") != MAGIC),
            (ErrorCause.BAD_VERSION,
             (field("isa_major") != ISA_MAJOR) | (field("isa_minor") > isa_minor(self.config))),
            (ErrorCause.BAD_FEATURE, (field("features") & lacking).any()),
            (ErrorCause.BAD_LENGTH, field("commands") == 0))
        return m


class CommandCheck(wiring.Component):
    """Checks a command and what its instruction list needs, one instruction per cycle.

    Ports
    -----
    record: the command's 1,024 bits, stable from ``start`` on.
    start: pulse. done: pulse, at most nine cycles later; the other outputs then hold.
    failed, cause: the command is not valid. count: instructions in the list.
    rowwise: it reduces, uses row registers, or stores one result per row: it needs whole rows.
    stored: it writes the block back, takes the row maxima of A·B or has one result per row: a
        row must fit on chip.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "record": In(1024), "start": In(1), "done": Out(1), "failed": Out(1),
            "cause": Out(ErrorCause), "rowwise": Out(1), "stored": Out(1),
            "count": Out(range(INSTRUCTIONS + 1)),
        })

    def _field(self, name: str):
        row = COMMAND[name]
        return self.record[row.offset : row.offset + row.bits]

    def _largest(self) -> dict[str, int]:
        """The largest value that this build knows of each field of an enumeration."""
        if self.config.trains:  # of addends SELF is none: ``_scan``
            factor, addend, function = Operand.A, Operand.A, Function.SILU_SLOPE
            reduce, post = Reduce.AMAX, Post.POWER
        elif self.config.squares:
            factor, addend, function = Operand.SELF, Operand.R1, Function.GELU_SIGMOID
            reduce, post = Reduce.SUM, Post.INVERSE_SQRT
        else:
            factor, addend, function = Operand.R1, Operand.R1, Function.RECIPROCAL
            reduce, post = Reduce.SUM, Post.RECIPROCAL
        destination = Destination.MEMORY
        if not self.config.infers and self.config.squares:  # of posts two are none: ``_scan``
            function = Function.NONE
        if self.config.scales:  # of posts POWER is none: ``_scan``
            post, destination = Post.INVERSE, Destination.SECOND
        return {"multiply": factor, "add": addend, "scale": factor, "function": function,
                "reduce": reduce, "post": post, "destination": destination}

    def _scan(self, m: Module, instruction) -> dict[str, Signal]:
        """What one instruction uses, and whether its fields are known."""
        operands = [instruction_field(instruction, name) for name in ("multiply", "add", "scale")]
        found = {name: Signal(name=f"scan_{name}")
                 for name in ("y", "row", "buffer", "memory", "across", "bad", "last")}
        found |= {"reads": Signal(2, name="scan_reads"), "reduces": Signal(2, name="scan_reduces")}
        uses_y = [operand == Operand.Y for operand in operands]
        two = (uses_y[0] & uses_y[1]) | (uses_y[0] & uses_y[2]) | (uses_y[1] & uses_y[2])
        used = INSTRUCTION["rows" if self.config.scales else "last"].low + 1
        unknown = _any([*(instruction_field(instruction, name) > last for name, last
                          in self._largest().items()), instruction[used:].any()])
        bad = two | unknown
        reduces = instruction_field(instruction, "reduce") != Reduce.NONE
        if self.config.trains:
            largest = instruction_field(instruction, "reduce") == Reduce.AMAX
            found["a"] = Signal(2, name="scan_a")  # reads A, fills it
            m.d.comb += found["a"].eq(Cat(_any(operand == Operand.A for operand in operands),
                                          largest))
            of_rows = instruction_field(instruction, "reduce_to") | instruction_field(
                instruction, "post").any()
            bad = bad | (operands[1] == Operand.SELF) | (largest & of_rows)
            reduces = reduces & ~largest
        stored = instruction_field(instruction, "destination") == Destination.BUFFER
        row = found["reads"].any() | found["reduces"].any()
        if self.config.scales:
            second = found["second"] = Signal(name="scan_second")
            m.d.comb += second.eq(
                instruction_field(instruction, "destination") == Destination.SECOND)
            lacking = [Post.POWER]
            if not self.config.infers:
                lacking += [Post.RECIPROCAL, Post.INVERSE_SQRT]
            for post in lacking:
                bad = bad | (instruction_field(instruction, "post") == post)
            bad = bad | (second ^ instruction_field(instruction, "rows"))
            stored, row = stored | second, row | second
        m.d.comb += [
            found["reads"].eq(Cat(_any(operand == row for operand in operands)
                                  for row in (Operand.R0, Operand.R1))),
            found["y"].eq(uses_y[0] | uses_y[1] | uses_y[2]),
            found["bad"].eq(bad),
            found["buffer"].eq(stored),
            found["memory"].eq(instruction_field(instruction, "destination") == Destination.MEMORY),
            # A reduction takes whole rows, a transposed C columns, one result per row the first
            # word.
            found["across"].eq((self._field("c_transposed") | self._field("row_result"))
                               & found["memory"] & found["reduces"].any()),
            found["last"].eq(instruction_field(instruction, "last")),
        ]
        with m.If(reduces):
            m.d.comb += found["reduces"].eq(1 << instruction_field(instruction, "reduce_to"))
        m.d.comb += found["row"].eq(row)
        return found

    def _scan_list(self, m: Module) -> tuple:
        """Look at one instruction per cycle: whether one stores, whether the list is bad, which of
        Y0 and Y1 it takes; ``count``, ``rowwise``, ``stored`` and ``done`` on the way."""
        index = Signal(range(INSTRUCTIONS))
        scanning = Signal()
        memory, bad_list, uses_y, reduced = Signal(), Signal(), Signal(2), Signal(2)
        current = self._field("instructions").word_select(index, 32)
        found = self._scan(m, current)
        ended = found["last"] | (index == INSTRUCTIONS - 1)
        bad = found["bad"]
        if self.config.trains:
            # A command reads A or fills it.
            a = Signal(2)
            with m.If(self.start):
                m.d.sync += a.eq(0)
            with m.Elif(scanning):
                m.d.sync += a.eq(a | found["a"])
            bad = bad | (a | found["a"]).all()
        second = Signal()
        if self.config.scales:
            with m.If(self.start):
                m.d.sync += second.eq(0)
            with m.Elif(scanning):
                m.d.sync += second.eq(second | found["second"])
        with m.If(self.start):
            taken = self._field("row_max")
            whole = taken | self._field("row_result")
            m.d.sync += [scanning.eq(1), index.eq(0), memory.eq(0), bad_list.eq(0), uses_y.eq(0),
                         reduced.eq(taken), self.rowwise.eq(whole), self.stored.eq(whole)]
        with m.Elif(scanning):
            m.d.sync += [
                index.eq(index + 1), self.count.eq(index + 1),
                memory.eq(memory | found["memory"]),
                self.rowwise.eq(self.rowwise | found["row"]),
                self.stored.eq(self.stored | found["buffer"]),
                reduced.eq(reduced | found["reduces"]),
                # A row register holds nothing of this command until it is reduced into.
                bad_list.eq(bad_list | bad | found["across"] | (ended & ~found["last"])
                            | (found["reads"] & ~reduced).any()),
            ]
            with m.If(found["y"]):
                m.d.sync += uses_y.bit_select(instruction_field(current, "y"), 1).eq(1)
            with m.If(ended):
                m.d.sync += [scanning.eq(0), self.done.eq(1)]
        with m.If(self.done):
            m.d.sync += self.done.eq(0)
        return memory, bad_list, uses_y, second

    def _misaligned(self, uses_y, memory, second):
        """A BF16 tensor at an odd address or with an odd stride."""
        always = self.config.format.storage_bytes > 1
        vector = self._field("opcode") == Opcode.VECTOR

        def odd(name):
            return self._field(f"{name}_address")[0] | self._field(f"{name}_stride")[0]

        found = ((odd("a") & (always | (vector & self._field("x_wide"))))
                 | (odd("b") & always & ~vector)
                 | (odd("c") & memory & (always | self._field("c_wide")))
                 | (odd("y0") & uses_y[0] & (always | self._field("y0_wide")))
                 | (odd("y1") & uses_y[1] & (always | self._field("y1_wide"))))
        if self.config.scales:
            found = found | (second & (self._field("c_address")[0] ^ self._field("d_offset")[0]))
        return found

    def _counts(self, m: Module) -> list:
        """Of M, K and N one is 0, or beyond what is counted; where the accumulator bounds K,
        K is beyond that."""
        counts = [self._field(name) for name in ("m", "k", "n")]
        zero, large = Signal(), Signal()
        m.d.comb += [
            zero.eq((counts[0] == 0) | (counts[1] == 0) | (counts[2] == 0)),
            large.eq(counts[0][COUNT_BITS:].any() | counts[1][COUNT_BITS:].any()
                     | counts[2][COUNT_BITS:].any()),
        ]
        # Only a fixed-point word bounds K: a condition that is always false is none.
        k_range = []
        if self.config.exact_sums:
            deep = (self._field("opcode") == Opcode.GEMM) & (counts[1] > self.config.k_most)
            k_range = [(ErrorCause.K_RANGE, deep)]
        return [zero, large, k_range]

    def _misplaced(self, vector) -> tuple:
        """Reserved bits that are not 0; fields that are not 0 in a GEMM, in a VECTOR, where they
        must be. K of a VECTOR must be 1 where it counts nothing."""
        reserved = reserved_mask(COMMAND, len(self.record))
        if not self.config.trains:
            for name in ("imm0_scalar", "imm1_scalar"):
                reserved |= 1 << COMMAND[name].offset
        if not self.config.scales:
            for name in ("y0_column", "y1_column", "d_offset"):
                row = COMMAND[name]
                reserved |= ((1 << row.bits) - 1) << row.offset
        transposed = self._field("a_transposed") | self._field("b_transposed")
        gathers = self._field("x_gather")
        return ((self.record & reserved).any(), ~vector & gathers,
                vector & (((self._field("k") != 1) & ~gathers) | transposed
                          | self._field("row_max")))

    def elaborate(self, platform):
        m = Module()
        memory, bad_list, uses_y, second = self._scan_list(m)
        opcode = self._field("opcode")
        computes = (opcode == Opcode.GEMM) | (opcode == Opcode.VECTOR)
        known = computes | (opcode == Opcode.END) | (opcode == Opcode.FENCE)
        vector = opcode == Opcode.VECTOR
        zero, large, k_range = self._counts(m)
        reserved, of_vector, of_gemm = self._misplaced(vector)
        bad_field = bad_list | reserved | of_vector | of_gemm
        first_cause(
            m, self.cause, self.failed,
            (ErrorCause.BAD_OPCODE, ~known),
            (ErrorCause.BAD_SHAPE, computes & zero),
            (ErrorCause.OVERSIZE, computes & large),
            *k_range,
            (ErrorCause.BAD_FIELD, computes & bad_field),
            (ErrorCause.MISALIGNED, computes & self._misaligned(uses_y, memory, second)))
        return m
