"""Golden rows and products of matrices as programs on the generated Verilog."""

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read_codes
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from hdl.spec.commands import Destination, Operand
from hdl.spec.config import ACCUMULATORS, SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, BFLOAT16, FORMATS
from sim.campaigns.cells import Cell, cells, sample
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.harness.accelerator import Accelerator
from sim.harness.check import check, count_mismatches
from sim.model.codec import encode
from sim.model.rounding import from_words
from support import golden
from support.builds import tiny
from tools.vectors.rows import REDUCTIONS, SHAPES, SOFTMAX

# Builds that other tests compile as well: the matrix's sample, and the small ones of formats that
# campaigns need (``tiny``). The others at night.
SHARED = ("fp8", "bf16")
SAMPLE = [cell for cell in sample(cells(4)) if cell.fmt not in SHARED]
INFINITY, NAN = 0x7F80, 0x7FC0
CELLS = [*SHARED, *(cell if cell in SAMPLE else pytest.param(cell, marks=pytest.mark.slow)
                    for cell in cells(4))]


@pytest.fixture(scope="module", params=CELLS, ids=str)
def machine(request):
    if request.param in SHARED:
        return tiny(request.param)
    return Accelerator(request.param.config(4))


class Program:
    """Commands with the words that each must store."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.builder, self.wanted = ProgramBuilder(config, BASE), []

    def out(self, words, encoding="bf16"):
        words = np.asarray(words)
        self.wanted.append((self.builder.empty(*words.shape, encoding), words))
        return self.wanted[-1][0]

    def run(self, machine, profile):
        """Words found and wanted."""
        memory, address = self.builder.build(seed=1)
        outputs = tuple(tensor for tensor, _ in self.wanted)
        case = Case(memory, address, BASE, outputs, "golden vectors")
        compare(machine, case, profile, 1, rewrites=True)
        assert machine.run(memory, address, BASE).error is None
        found = [read_codes(memory, tensor, BASE).ravel() for tensor in outputs]
        return (np.concatenate(found).astype(np.int64),
                np.concatenate([words.ravel() for _, words in self.wanted]).astype(np.int64))


def numbers(rows):
    return np.array([[int(text, 16) for text in row] for row in rows])


def stored(lane, words):
    """What a wide result holds for words of the lane's type: BF16 as it is, FP32 encoded."""
    return words if lane == BFLOAT16 else encode(BF16_ENCODING, from_words(lane, words))


def test_products_of_matrices(machine):
    config, program = machine.config, Program(machine.config)
    (group,) = golden.groups("gemm", format=config.fmt, accumulator=config.acc, dim=4)
    fields = zip(*(golden.column(group, name) for name in ("a", "b", "value", "code")), strict=True)
    kinds = (config.format.encodings[0].name, config.format.encodings[-1].name)
    for a, b, values, codes in fields:
        left, right = (program.builder.codes(numbers(rows), kind)
                       for rows, kind in zip((a, b), kinds, strict=True))
        program.builder.gemm(left, right, program.out(numbers(codes), kinds[0]))
        program.builder.gemm(left, right, program.out(stored(config.lane, numbers(values))))
    found, wanted = program.run(machine, "light")
    cases = check(f"golden gemm {config.fmt} {config.acc}", found, wanted)
    assert cases == 2 * sum(m * n for m, _, n in SHAPES)
    assert count_mismatches(found[1:], wanted[:-1]) > 0


def emit_row(program, choice, x, words):
    builder, row = program.builder, program.builder.codes(x[None], "bf16")
    if choice["row"] == "softmax":
        steps = [Instruction(**{name: value if name != "subtract" else bool(value)
                                for name, value in fields.items()}) for fields in SOFTMAX]
        builder.vector(row, program.out(words[None]), Epilogue(instructions=steps))
        return
    # Zeros plus the row; what is reduced comes out in the place of its first item.
    zeros = builder.constant(np.zeros((1, x.size)), "bf16")
    steps = [Instruction(add=Operand.Y, **REDUCTIONS[choice["row"]]),
             Instruction(add=Operand.R0, destination=Destination.MEMORY)]
    builder.vector(zeros, program.out(words[None]),
                   Epilogue(bias=row, instructions=steps, row_result=True))


def check_rows(machine):
    """Rows of every group that the build has; how many."""
    config, program, rows = machine.config, Program(machine.config), 0
    for group in golden.groups("rows", lane=config.lane.name):
        choice = group[0].choice
        if choice.get("softmax") not in (None, config.softmax) or (
                choice["row"] == "power" and not config.trains):
            continue
        for x, result in zip(*(golden.column(group, name) for name in ("x", "result")),
                             strict=True):
            row, words = numbers([x])[0], stored(config.lane, numbers([result])[0])
            if config.fmt == "bf16" and np.any((row & 0x7FFF) == INFINITY):
                words = np.full_like(words, NAN)  # what its tensors' infinities are read as
            emit_row(program, choice, row, words)
            rows += 1
    found, wanted = program.run(machine, "ideal")
    check(f"golden rows {config.lane.name} {config.softmax}", found, wanted)
    return rows


def test_rows(machine):
    assert check_rows(machine) == (4 if machine.config.trains else 3) * 24


def test_rows_of_a_build_that_trains():
    """Of the formats in ``SHARED`` the tests above run on such a build."""
    assert check_rows(small_accelerator("posit8", functions="training")) == 4 * 24


def test_the_sample_has_both_lanes_and_every_mode():
    formats = {*SHARED, *(cell.fmt for cell in SAMPLE)}
    assert formats == set(FORMATS)
    assert {FORMATS[fmt].lane.name for fmt in formats} == {"bf16", "fp32"}
    assert {cell.softmax for cell in SAMPLE} == set(SOFTMAX_MODES)
    assert {cell.acc for cell in SAMPLE} == set(ACCUMULATORS)
    assert Cell("bf16", "fp32", "pwl") in cells(4)
