"""The vector unit without back-pressure, beat by beat against the model of its instructions."""

import numpy as np
import pytest

from gen.amaranth_private import mark_used
from gen.block import component_of, design_block
from hdl.spec.commands import (
    INSTRUCTION,
    Destination,
    Function,
    Operand,
    Post,
    Reduce,
    members,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import join_fields, lane_words, split_fields
from sim.model.rounding import flush, from_words, largest, to_words
from sim.model.vector import RowState, execute
from support.sabotage import with_fault

CONFIGS = [("posit8", "approx_shifted", 4, 1, 1, "all"), ("fp8", "pwl", 8, 1, 1, "softmax"),
           ("posit8", "approx", 8, 1, 1, "softmax"), ("bf16", "pwl", 4, 1, 1, "all"),
           ("fp8", "pwl", 4, 2, 1, "all"), ("bf16", "approx_shifted", 4, 2, 1, "softmax"),
           ("e4m3", "approx", 4, 1, 1, "scales"), ("fp8", "pwl", 4, 1, 2, "scales"),
           ("posit8", "approx_shifted", 4, 4, 4, "softmax"), ("bf16", "pwl", 4, 3, 4, "all"),
           ("int8", "pwl", 4, 1, 1, "linear"), ("int8", "pwl", 8, 3, 1, "linear")]
INVERSE_N, EPSILON = 0x3E124925, 0x3DCCCCCD  # a seventh, a tenth
DRAIN = 60  # cycles in which the pipeline and the reductions empty
SOFTMAX = [
    {"multiply": Operand.IMM0, "add": Operand.Y, "reduce": Reduce.MAX, "reduce_to": 0,
     "destination": Destination.BUFFER},
    {"add": Operand.R0, "subtract": 1, "function": Function.EXP, "reduce": Reduce.SUM,
     "reduce_to": 1, "post": Post.RECIPROCAL, "destination": Destination.BUFFER},
    {"scale": Operand.R1, "destination": Destination.MEMORY},
]

POLYNOMIAL = [
    {"multiply": Operand.IMM0, "add": Operand.Y, "relu": 1, "destination": Destination.BUFFER},
    {"multiply": Operand.SELF, "reduce": Reduce.MAX, "post": Post.RECIPROCAL_MEAN,
     "destination": Destination.BUFFER},
    {"multiply": Operand.R0, "reduce": Reduce.SUM, "reduce_to": 1, "post": Post.INVERSE,
     "destination": Destination.MEMORY},
]
"""What lanes of integers do in place of a softmax."""


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda build: "-".join(map(str, build)))
def unit(request):
    fmt, softmax, lanes, latency, ways, functions = request.param
    config = AcceleratorConfig(fmt=fmt, softmax=softmax, dim=lanes, lanes=lanes,
                               lane_latency=latency, sum_ways=ways, functions=functions)
    verilog = with_fault(design_block("vector", config), "o__valid", 1)
    # Few cycles: -O1 takes longer to compile than -O0 to run.
    return config, Batch(verilog, "vector", optimise="-O0")


def from_word(word):
    return float(from_words(BINARY32, np.uint32(word)))


def layouts(config):
    component = component_of("vector", config)
    mark_used(component)
    return component.i.payload.shape(), component.o.payload.shape()


def instruction_word(fields):
    return sum(int(value) << INSTRUCTION[name].low for name, value in fields.items())


def random_instruction(config, rng):
    """Any instruction; at most one stage takes Y."""
    fields = {name: int(rng.choice(members(name, config)))
              for name, field in INSTRUCTION.items() if field.kind is not None}
    fields |= {name: int(rng.integers(0, 2)) for name in ("subtract", "relu", "reduce_to")}
    if config.scales:  # the unit stores an item of each row as any word: who feeds it makes that +0
        fields["magnitude"] = int(rng.integers(0, 2))
        fields["destination"] = min(fields["destination"], Destination.MEMORY)
    ys = [stage for stage in ("multiply", "add", "scale") if fields[stage] == Operand.Y]
    for stage in ys[1:]:
        fields[stage] = Operand.IMM1
    return fields


def words_of(config, shape, rng):
    """Words near 1, where sums and exponentials mean something, and some of every class."""
    count = int(np.prod(shape))
    if config.fixed:  # most of them small enough for sums and products
        words = lane_words(config.word, count, rng)
        small = words.astype(np.uint32).view(np.int32) >> rng.integers(8, 16, count)
        return np.where(rng.random(count) < 0.95, small, words).reshape(shape) & 0xFFFFFFFF
    bits, fraction = config.lane.bits, config.lane.fraction_bits
    near = rng.integers(config.lane.bias - 5, config.lane.bias + 3, count) << fraction
    near |= rng.integers(0, 1 << fraction, count) | rng.integers(0, 2, count) << bits - 1
    return np.where(rng.random(count) < 0.995, near, lane_words(config.lane, count, rng)
                    ).reshape(shape)


class Passes:
    """Collects the cycles of several passes over blocks, and what has to come out of them."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        self.cycles: list[dict[str, np.ndarray]] = []
        self.expected: list[np.ndarray] = []
        self.saturations = 0

    def block(self, rows, columns, instructions, immediates, maximum=None):
        """Run ``instructions`` over a random block; R0 and R1 are filled before, and read out
        after by adding them to zero. ``maximum``: the word that stands in for R0 of every row."""
        config, rng = self.config, self.rng
        x = from_words(config.word, words_of(config, (rows, columns), rng))
        accumulates = config.fixed and bool(rng.integers(2))
        if accumulates:
            x = np.ldexp(x, config.word.fraction_bits)
        elif rows > 2 and not config.fixed:  # a masked row, one that zeros of both signs fill
            x[1] = -largest(BFLOAT16)
            x[2] = np.copysign(0.0, x[2])
        y = from_words(config.lane, (lane_words(config.lane, rows * columns, rng).reshape(
            rows, columns) if config.fixed else words_of(config, (rows, columns), rng)))
        y[1:2] = 0.0
        y = from_words(config.lane, to_words(config.lane, y))  # NaNs are canonical
        values = tuple(float(from_words(BFLOAT16, np.array(word))) for word in immediates)
        state = RowState(values, {(0, 0): y, (1, 0): y}, inverse_n=from_word(INVERSE_N),
                         epsilon=from_word(EPSILON))
        prologue = [{"reduce": Reduce.MAX, "reduce_to": 0}, {"reduce": Reduce.SUM, "reduce_to": 1}]
        for fields in prologue + instructions:
            full = dict.fromkeys(INSTRUCTION, 0) | fields
            replaced = maximum if fields in instructions else None
            held, writes = state.registers[0], full["reduce"] and not full["reduce_to"]
            if replaced is not None:
                state.registers[0] = np.full(rows, from_words(config.word, np.uint32(maximum)))
            result = execute(config, full, x, state)
            if replaced is not None and not writes:
                state.registers[0] = held
            self._drive(x, y, full, immediates, replaced, accumulates)
            if full["destination"]:
                self.expected.append(self._beats(result)[0])
            if full["destination"] == Destination.BUFFER:
                x, accumulates = result, False
        for register in (Operand.R0, Operand.R1):
            zeros = np.zeros((rows, 1))
            full = dict.fromkeys(INSTRUCTION, 0) | {"add": register, "destination": 2}
            self._drive(zeros, zeros, full, immediates)
            self.expected.append(self._beats(execute(config, full, zeros, state))[0])
        self.saturations += state.saturations

    def _beats(self, values, kind=None):
        """Rows cut into beats: words (beats, L) of ``kind``, keep, row and last."""
        lanes = self.config.lanes
        rows, columns = values.shape
        per_row = -(-columns // lanes)
        words = np.zeros((rows, per_row * lanes), np.int64)
        words[:, :columns] = to_words(kind or self.config.word, values)
        keep = np.zeros((rows, per_row * lanes), np.int64)
        keep[:, :columns] = 1
        keep = keep.reshape(-1, lanes)
        words = np.where(keep, words.reshape(-1, lanes), 0)
        row = np.repeat(np.arange(rows), per_row)
        last = np.tile(np.arange(per_row) == per_row - 1, rows)
        return words, keep, row, last

    def _drive(self, x, y, fields, immediates, maximum=None, accumulates=False):
        rng, config = self.rng, self.config
        unit = config.word.fraction_bits if accumulates else 0
        words, keep, row, last = self._beats(np.ldexp(x, -unit))
        others, *_ = self._beats(y, config.lane)
        noise = rng.integers(0, 1 << config.lane.bits, words.shape)
        beats = {"data": np.where(keep, words, noise), "y": np.where(keep, others, noise),
                 "keep": keep @ (1 << np.arange(config.lanes)), "row": row, "last": last,
                 "tag": rng.integers(0, 512, len(words))}
        gaps = np.cumsum(rng.integers(0, 3, len(words)) // 2) + np.arange(len(words))
        valid = np.zeros(gaps[-1] + 1 + DRAIN, np.int64)
        valid[gaps] = 1
        cycles = {"i__valid": valid}
        for name, values in beats.items():
            cycles[name] = np.zeros((len(valid), *values.shape[1:]), np.int64)
            cycles[name][gaps] = values
        for name, value in (("instruction", instruction_word(fields)), ("imm0", immediates[0]),
                            ("imm1", immediates[1]), ("row_maxima", maximum is not None),
                            ("maximum", maximum or 0), *self._scaling(),
                            *([("accumulates", accumulates)] if config.fixed else [])):
            cycles[name] = np.full(len(valid), value)
        self.cycles.append(cycles)

    def _scaling(self):
        whole = self.config.squares
        return (("inverse_n", INVERSE_N), ("epsilon", EPSILON)) if whole else ()

    def run(self, batch, fault=0):
        """Words (beats, L) that came out, dropped lanes 0, and those expected."""
        config = self.config
        joined = {name: np.concatenate([cycles[name] for cycles in self.cycles])
                  for name in self.cycles[0]}
        layout, result = layouts(config)
        widths = {name: field.width // (config.lanes if name in ("data", "y") else 1)
                  for name, field in layout}
        payload = join_fields([(joined.pop(name), widths[name]) for name in widths])
        idle = dict.fromkeys(batch.inputs, 0)  # what a pass does not ask for
        out = batch.run(idle | joined | {"i__payload": payload, "o__ready": 1, "fault": fault})
        assert out["i__ready"].all() and out["idle"][-1]
        if config.fixed and not fault:
            assert out["beyond"].sum() == self.saturations
        beats = out["o__payload"][out["o__valid"] == 1]
        words = split_fields(beats, result["data"].offset, config.word.bits, config.lanes)
        keep = split_fields(beats, result["keep"].offset, 1, config.lanes)
        return np.where(keep, words, 0).astype(np.int64), np.concatenate(self.expected)


def random_passes(config, seed, blocks):
    rng = np.random.default_rng(seed)
    passes = Passes(config, rng)
    for _ in range(blocks):
        rows, columns = int(rng.integers(1, 9)), int(rng.integers(1, 6 * config.lanes))
        immediates = tuple(int(word) for word in rng.integers(0x3E00, 0x4080, 2))
        words = lane_words(config.word, 2, rng)
        maximum = int(words[0]) if rng.random() < 0.4 else None
        passes.block(rows, columns, [random_instruction(config, rng)], immediates, maximum)
    return passes


def test_random_instructions(unit):
    config, batch = unit
    passes = random_passes(config, 31, 150)
    got, expected = passes.run(batch)
    assert check(f"vector {config.fmt} {config.softmax} random", got, expected) > 5000
    assert (passes.saturations > 100) == config.fixed


def test_softmax_of_rows_of_any_length(unit):
    config, batch = unit
    rng = np.random.default_rng(32)
    passes = Passes(config, rng)
    for columns in range(1, 8 * config.lanes, 3):
        passes.block(int(rng.integers(3, 9)), columns,
                     POLYNOMIAL if config.fixed else SOFTMAX, (0x3E35, 0))
    got, expected = passes.run(batch)
    assert check(f"vector {config.fmt} {config.softmax} softmax", got, expected) > 3000
    assert flush(config.lane, from_words(config.word, expected)).any()


def test_a_dropped_beat_is_seen(unit):
    config, batch = unit
    got, expected = random_passes(config, 33, 3).run(batch, fault=1)
    with pytest.raises(ValueError, match="as many as expected"):
        count_mismatches(got, expected)
