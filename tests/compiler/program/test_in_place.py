"""Results that take the place of the command's own X, Y0 or Y1."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.program.hazards import in_place
from compiler.program.instruction import Instruction
from compiler.program.records import commands
from hdl.spec.commands import Destination, Function, Opcode, Operand, Reduce
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine

KEEP, STORE = {"destination": Destination.BUFFER}, {"destination": Destination.MEMORY}
# One pass; two that read everything again; two that keep the block.
LISTS = {
    "one": (Instruction(multiply=Operand.Y, scale=Operand.IMM0, **STORE),),
    "again": (Instruction(multiply=Operand.Y, reduce=Reduce.SUM),
              Instruction(multiply=Operand.Y, add=Operand.R0, subtract=True, **STORE)),
    "kept": (Instruction(multiply=Operand.Y, **KEEP),
             Instruction(add=Operand.Y, y=1, function=Function.TANH, **STORE)),
}
SHAPES = ((1, 1), (1, 37), (5, 16), (7, 13), (18, 5), (33, 64), (3, 150))


class Maker:
    """Operands at odd places with gaps between their rows."""

    def __init__(self, config, seed):
        self.builder = ProgramBuilder(config, BASE)
        self.rng = np.random.default_rng(seed)

    def tensor(self, rows, columns, encoding):
        unit = 2 if encoding == "bf16" else 1
        values = self.rng.normal(0, 1, (rows, columns))
        return self.builder.constant(
            values, encoding, skew=unit * int(self.rng.integers(0, 16)),
            stride=unit * (columns + int(self.rng.integers(0, 6))))


def emitted(config, seed, shape, place, encoding, which, gemm):
    """A command whose result takes the ``place`` of an operand; None where rows are too long."""
    make = Maker(config, seed)
    rows, columns = shape
    if which == "kept" and columns > 64:
        return None
    x, y0, y1 = (make.tensor(rows, columns, encoding) for _ in range(3))
    out = {"x": x, "y0": y0, "y1": y1}[place]
    epilogue = Epilogue(0.5, y0, y1=y1, instructions=LISTS[which])
    if gemm:
        a, b = make.tensor(rows, 9, "posit8"), make.tensor(9, columns, "posit8")
        make.builder.gemm(a, b, out, epilogue)
    else:
        make.builder.vector(x, out, epilogue)
    return make.builder, out


@pytest.mark.parametrize("which", LISTS)
@pytest.mark.parametrize("gemm, place", [(False, "x"), (False, "y0"), (False, "y1"),
                                         (True, "y0"), (True, "y1")])
def test_results_in_place_of_an_operand_on_rtl(gemm, place, which):
    """The same as in a place of their own, under every stall profile."""
    machine = small_accelerator("posit8")
    compared = commands = 0
    for seed, shape in enumerate(SHAPES):
        encoding = ("posit8", "bf16")[seed % 2]
        made = emitted(machine.config, seed, shape, place, encoding, which, gemm)
        if made is None:
            continue
        builder, out = made
        memory, address = builder.build(seed=seed)
        for number, profile in enumerate(PROFILES):
            case = Case(memory, address, BASE, (out,), f"{which} {place} {shape}")
            compared += compare(machine, case, profile, 10 * seed + number)
            commands += 1
    print(f"{which} in place of {place}: {commands} commands, {compared} bytes")
    assert commands >= 24 and compared > 4000


@pytest.mark.parametrize("which", LISTS)
def test_the_machine_gives_what_it_gives_elsewhere(which):
    config = small_accelerator("posit8").config
    for place in ("x", "y0", "y1"):
        builder, out = emitted(config, 3, (7, 13), place, "bf16", which, False)
        apart = ProgramBuilder(config, BASE)
        x, y0, y1 = (apart.codes(tensor.codes(builder.build()[0], BASE), "bf16")
                     for tensor in builder.tensors[:3])
        other = apart.empty(7, 13, "bf16")
        apart.vector(x, other, Epilogue(0.5, y0, y1=y1, instructions=LISTS[which]))
        results = []
        for own, tensor in ((builder, out), (apart, other)):
            memory, address = own.build()
            assert Machine(config).run(memory, address, BASE).error is None
            results.append(read(memory, tensor, BASE))
        assert np.array_equal(*results)


def refused(emit, message="must not overlap the operand"):
    config = small_accelerator("posit8").config
    make = Maker(config, 0)
    with pytest.raises(ValueError, match=message):
        emit(make.builder, make.tensor(4, 4, "posit8"), make.tensor(4, 4, "posit8"))


@pytest.mark.parametrize("emit", [
    lambda b, x, y: b.vector(x, x, out_transposed=True),
    lambda b, x, y: b.vector(x, replace(x, stride=x.stride + 1)),
    lambda b, x, y: b.vector(x, replace(x, address=x.address + 1)),
    lambda b, x, y: b.vector(x, x.block(0, 0, 4, 1), Epilogue(row_result=True)),
    lambda b, x, y: b.gemm(x, y, x),
    lambda b, x, y: b.gemm(x, y, y),
    lambda b, x, y: b.vector(x, y.block(0, 0, 4, 4), Epilogue(bias=y.block(1, 0, 1, 4))),
    lambda b, x, y: b.gather(x, b.indices([0, 1, 2, 3]), x),
    lambda b, x, y: b.vector(x, x, Epilogue(instructions=(
        Instruction(reduce=Reduce.SUM, **STORE), Instruction(add=Operand.R0, **STORE)))),
    lambda b, x, y: b.vector(x, x, Epilogue(instructions=(
        Instruction(**STORE), Instruction(reduce=Reduce.SUM)))),
], ids=["transposed", "stride", "address", "row result", "A", "B", "one row for all", "gathered",
        "stored twice", "stored before"])
def test_other_overlaps_are_refused(emit):
    refused(emit)


def test_rows_that_are_repeated_are_replaced_by_one_row_alone():
    builder = ProgramBuilder(small_accelerator("posit8").config, BASE)
    row = builder.empty(1, 5)
    assert in_place(row, replace(row, stride=99)) and not in_place(row, builder.empty(1, 5))
    builder.vector(builder.empty(1, 5), row, Epilogue(bias=row))
    assert not in_place(builder.empty(2, 5), row)


def test_a_result_in_place_waits_for_what_came_before():
    builder = ProgramBuilder(small_accelerator("posit8").config, BASE)
    x, y = builder.empty(4, 4), builder.empty(4, 4)
    builder.vector(x, y)
    builder.vector(y, y, Epilogue(2.0))
    builder.vector(y, y, Epilogue(2.0))
    memory, address = builder.build()
    found = [fields["opcode"] for _, fields in commands(memory, address, BASE)]
    assert found == [Opcode.VECTOR, Opcode.FENCE, Opcode.VECTOR, Opcode.FENCE, Opcode.VECTOR,
                     Opcode.END]
