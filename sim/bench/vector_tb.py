"""Vector unit: passes over blocks of any shape, idle inputs against held outputs."""

import cocotb
import numpy as np

from hdl.spec.commands import (
    COMMAND,
    INSTRUCTION,
    Destination,
    Function,
    Operand,
    Post,
    Reduce,
    Unit,
    available,
    members,
    pack,
)
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.bench.support import (
    configuration,
    expect,
    generator,
    join,
    put,
    report,
    reset,
    sample,
    settle,
    step,
)
from sim.harness.operands import lane_words
from sim.model.rounding import from_words, to_words
from sim.model.vector import RowState, execute

BLOCKS = 24
INVERSE_N, EPSILON = 0x3E124925, 0x3DCCCCCD  # a seventh, a tenth
IDLE_AND_HELD = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.3, 0.3))
SOFTMAX = (
    {"multiply": Operand.IMM0, "add": Operand.Y, "reduce": Reduce.MAX,
     "destination": Destination.BUFFER},
    {"add": Operand.R0, "subtract": 1, "function": Function.EXP, "reduce": Reduce.SUM,
     "reduce_to": 1, "post": Post.RECIPROCAL, "destination": Destination.BUFFER},
    {"scale": Operand.R1, "destination": Destination.MEMORY},
)
POLYNOMIAL = (
    {"multiply": Operand.IMM0, "add": Operand.Y, "relu": 1, "destination": Destination.BUFFER},
    {"multiply": Operand.SELF, "reduce": Reduce.MAX, "post": Post.RECIPROCAL_MEAN,
     "destination": Destination.BUFFER},
    {"multiply": Operand.R0, "reduce": Reduce.SUM, "reduce_to": 1, "post": Post.INVERSE,
     "destination": Destination.MEMORY},
)
"""What lanes of integers do in place of a softmax."""


def random_instruction(config, rng):
    """Any instruction of a build, with at most one stage on Y."""
    fields = {name: int(rng.choice([0, 0, 1, 2, 4, 5])) for name in ("multiply", "add", "scale")}
    fields[str(rng.choice(["multiply", "scale"]))] = int(rng.choice([0, Operand.SELF]))
    fields[str(rng.choice(["multiply", "add", "scale"]))] = int(rng.choice([0, Operand.Y]))
    for name in ("function", "reduce", "post", "destination"):
        fields[name] = int(rng.choice(members(name, config)))
    if fields["destination"] == Destination.SECOND:  # any word, for the unit
        fields["destination"] = Destination.MEMORY
    return fields | {name: int(rng.integers(2)) for name in ("subtract", "relu", "reduce_to")}


class Bench:
    """Feeds beats, takes results, keeps count."""

    def __init__(self, dut, config, rng):
        self.dut, self.config, self.rng = dut, config, rng
        self.cases = self.cycles = 0
        bits = config.word.bits
        self.tag = [config.lanes, config.row_depth.bit_length() - 1, 1]
        self.address_bits = len(dut.o__payload) - config.lanes * bits - sum(self.tag)

    def beats(self, words, y):
        """Payloads of a block's beats and the tags that must come back."""
        lanes, bits, y_bits = (self.config.lanes, self.config.word.bits,
                               self.config.lane.bits)
        payloads, tags = [], []
        rows, columns = words.shape
        for row in range(rows):
            for first in range(0, columns, lanes):
                part = slice(first, min(first + lanes, columns))
                keep = (1 << part.stop - part.start) - 1
                address = int(self.rng.integers(1 << self.address_bits))
                tag, low = 0, 0
                fields = (keep, row, part.stop == columns, address)
                for value, width in zip(fields, (*self.tag, self.address_bits), strict=True):
                    tag, low = tag | int(value) << low, low + width
                both = [np.pad(source[row, part], (0, lanes), constant_values=7)[:lanes]
                        for source in (words, y)]
                payloads.append(join(both[0], bits) | join(both[1], y_bits) << lanes * bits
                                | tag << lanes * (bits + y_bits))
                tags.append((tag, row, part))
        return payloads, tags

    async def run(self, instruction, words, y, idle, held):
        """One pass; the block of results, checked against nothing yet."""
        dut, rng, bits = self.dut, self.rng, self.config.word.bits
        word = int.from_bytes(pack(INSTRUCTION, instruction, 4), "little")
        put(dut, instruction=word)
        payloads, tags = self.beats(words, y)
        wanted = list(tags) if instruction["destination"] else []
        result = np.zeros_like(words)
        sent, valid, limit = 0, False, 200 + 40 * len(payloads)
        while True:
            if sent < len(payloads):
                valid = valid or rng.random() >= idle
            put(dut, i__valid=valid, o__ready=rng.random() >= held,
                **({"i__payload": payloads[sent]} if valid else {}))
            await settle()
            accepted = valid and sample(dut, "i__ready")[0]
            taken = None
            if sample(dut, "o__valid")[0] and sample(dut, "o__ready")[0]:
                taken = sample(dut, "o__payload")[0]
            done = sent == len(payloads) and not wanted and sample(dut, "idle")[0]
            await step(dut.clk)
            self.cycles += 1
            limit -= 1
            assert limit, f"no end of {instruction}"
            if taken is not None:
                tag, row, part = wanted.pop(0)
                expect(taken >> self.config.lanes * bits, tag, "tag")
                for column in range(part.start, part.stop):
                    result[row, column] = taken >> bits * (column - part.start) & (1 << bits) - 1
            if accepted:
                sent, valid = sent + 1, False
            if done:
                return result

    async def block(self, instructions, idle, held):
        """A list of instructions over a random block; every result against the model."""
        config, rng, lane, word = self.config, self.rng, self.config.lane, self.config.word
        rows, columns = int(rng.integers(1, 7)), int(rng.integers(1, 4 * config.lanes))
        if rng.random() < 0.5:
            words, y = (lane_words(kind, rows * columns, rng).reshape(rows, columns)
                        for kind in (word, lane))
        elif config.fixed:
            x, y = (np.ldexp(rng.integers(-128, 129, (rows, columns)).astype(float), -4)
                    for _ in "xy")
            words, y = to_words(word, x).astype(np.int64), to_words(lane, y).astype(np.int64)
        else:
            words, y = (to_words(lane, from_words(BFLOAT16, to_words(lane, np.ldexp(
                rng.integers(-128, 129, (rows, columns)).astype(float), -4)) >> lane.bits - 16))
                .astype(np.int64) for _ in "xy")
        immediates = [int(word) for word in lane_words(BFLOAT16, 2, rng)]
        immediates[0] = 0x3E80  # a quarter
        put(self.dut, imm0=immediates[0], imm1=immediates[1], inverse_n=INVERSE_N,
            epsilon=EPSILON)
        state = RowState(tuple(float(from_words(BFLOAT16, word)) for word in immediates),
                         {(0, 0): from_words(lane, y)},
                         inverse_n=float(from_words(BINARY32, np.uint32(INVERSE_N))),
                         epsilon=float(from_words(BINARY32, np.uint32(EPSILON))))
        for number, fields in enumerate(instructions):
            instruction = dict.fromkeys(INSTRUCTION, 0) | fields
            expected = to_words(word, execute(config, instruction, from_words(word, words), state))
            got = await self.run(instruction, words, y, idle, held)
            if not instruction["destination"]:
                continue
            wrong = np.argwhere(got != expected)
            assert not wrong.size, (
                f"pass {number} {instruction}: at {wrong[0]} of {words.shape} got "
                f"{got[tuple(wrong[0])]:#x}, expected {expected[tuple(wrong[0])]:#x}, "
                f"x {words[tuple(wrong[0])]:#x}")
            self.cases += words.size
            if instruction["destination"] == Destination.BUFFER:
                words = got


@cocotb.test()
async def passes(dut):
    config, rng = configuration(), generator()
    constants = [field.name for field in COMMAND.values()
                 if Unit.VECTOR in field.units and available(field.needs, config)]
    await reset(dut, dict.fromkeys(("instruction", *constants, "row_maxima", "maximum", "i__valid",
                                    "i__payload", "o__ready",
                                    *(["accumulates"] if config.fixed else [])), 0))
    bench = Bench(dut, config, rng)
    # Both row registers hold something from here on.
    fill = [{"reduce": Reduce.MAX, "reduce_to": register} for register in (0, 1)]
    for number in range(BLOCKS):
        idle, held = IDLE_AND_HELD[number % len(IDLE_AND_HELD)]
        some = [random_instruction(config, rng) for _ in range(3)]
        whole = POLYNOMIAL if config.fixed else SOFTMAX
        await bench.block(whole if number % 2 else fill + some, idle, held)
    report(bench.cases, bench.cycles)
