"""Factors from memory, the largest magnitude, powers of two and slopes, as the builder has them
and as the machine model carries them out."""

import numpy as np
import pytest

from compiler.program.assembly.listing import assemble, disassemble, program_bytes
from compiler.program.builder import ProgramBuilder, read, read_codes
from compiler.program.epilogue import Epilogue
from compiler.program.image import ImageError, ProgramImage
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from hdl.spec.commands import (
    HEADER,
    HEADER_BYTES,
    Destination,
    ErrorCause,
    Feature,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

TRAINING = AcceleratorConfig("posit8", dim=4, functions="training")
LANES = pytest.mark.parametrize("fmt", ("posit8", "fp8", "bf16"))
STORE_A = Epilogue(0.0, instructions=(
    Instruction(multiply=Operand.IMM0, add=Operand.A, destination=Destination.MEMORY),))


def built(fmt="posit8"):
    return ProgramBuilder(AcceleratorConfig(fmt, dim=4, functions="training"), 0x4000)


def run(builder, **build):
    memory, address = builder.build(**build)
    ending = Machine(builder.config).run(memory, address, builder.base)
    assert ending.error is None, ending
    return memory


def opcodes(builder):
    return [Opcode(command["opcode"]) for command in builder.commands]


def header(memory, address, base):
    return unpack(HEADER, memory[address - base:address - base + HEADER_BYTES].tobytes())


@LANES
@pytest.mark.parametrize("numbers", [(0, None), (None, 5), (4, 1)])
def test_a_scalar_is_the_word_that_stands_there(fmt, numbers):
    builder = built(fmt)
    x = builder.constant(np.arange(-6, 6).reshape(3, 4), "bf16")
    factors = np.array([[0.5, -2.0, 3.0], [1.5, 0.125, -1.0]])
    table = builder.constant(factors, "bf16", skew=2)
    out = builder.empty(3, 4, "bf16")
    scale, imm1 = (0.25 if n is None else Scalar(table, n) for n in numbers)
    builder.vector(x, out, Epilogue(scale, imm1=imm1, instructions=(
        Instruction(multiply=Operand.IMM0, scale=Operand.IMM1,
                    destination=Destination.MEMORY),)))
    memory, address = builder.build()
    told = header(memory, address, builder.base)
    assert told["scalars"] == table.address and told["isa_minor"] == 1
    assert Feature.BACKWARD in Feature(told["features"])
    assert Machine(builder.config).run(memory, address, builder.base).error is None
    product = np.prod([0.25 if n is None else factors.flat[n] for n in numbers])
    assert np.array_equal(read(memory, out, builder.base),
                          np.arange(-6, 6).reshape(3, 4) * product)
    # The negative control: another word, another result.
    used = next(n for n in numbers if n is not None)
    at = table.address - builder.base + 2 * used + 1
    memory[at] ^= 0x80
    assert Machine(builder.config).run(memory, address, builder.base).error is None
    assert np.array_equal(read(memory, out, builder.base),
                          -np.arange(-6, 6).reshape(3, 4) * product)


def test_an_entry_orders_like_a_tensor():
    builder = built()
    table = builder.constant(np.ones((1, 4)), "bf16")
    x, out = builder.constant(np.ones((2, 4)), "bf16"), builder.empty(2, 4, "bf16")
    builder.vector(x, out, Epilogue(Scalar(table, 0)))
    builder.vector(x.block(0, 0, 1, 1), table.block(0, 1, 1, 1), Epilogue(3.0))
    assert Opcode.FENCE not in opcodes(builder)  # read before the command that writes is fetched
    builder.vector(x, builder.empty(2, 4, "bf16"), Epilogue(Scalar(table, 2)))
    assert Opcode.FENCE not in opcodes(builder)
    late = builder.empty(2, 4, "bf16")
    builder.vector(x, late, Epilogue(Scalar(table, 1)))
    assert opcodes(builder)[-2:] == [Opcode.FENCE, Opcode.VECTOR]
    # A command may overwrite its own scalar.
    builder.vector(table.block(0, 3, 1, 1), table.block(0, 2, 1, 1), Epilogue(Scalar(table, 2)))
    assert opcodes(builder).count(Opcode.FENCE) == 1
    memory = run(builder)
    assert (read(memory, late, builder.base) == 3).all()


def test_a_softmax_whose_scale_is_a_scalar_finds_its_maximum_itself():
    builder = built()
    rng = np.random.default_rng(5)
    a, b = (builder.constant(rng.normal(size=size)) for size in ((6, 5), (5, 7)))
    table = builder.constant([[0.5]], "bf16")
    one, other = builder.empty(6, 7), builder.empty(6, 7)
    builder.gemm(a, b, one, Epilogue(Scalar(table), softmax=True))
    builder.gemm(a, b, other, Epilogue(0.5, softmax=True))
    assert [command["row_max"] for command in builder.commands] == [0, 1]
    memory = run(builder)
    assert np.array_equal(*(read_codes(memory, t, builder.base) for t in (one, other)))


def test_what_scalars_refuse():
    builder = built()
    table, other = (builder.empty(2, 3, "bf16", name=name) for name in ("table", "other"))
    x, out = builder.empty(3, 4), builder.empty(3, 4)
    with pytest.raises(ValueError, match="must hold bf16 to give scalars, not posit8"):
        Scalar(builder.empty(1, 4, name="narrow"))
    with pytest.raises(ValueError, match="stride of wide must be 4 to give scalars, not 8"):
        Scalar(builder.empty(2, 2, "bf16", stride=8, name="wide"))
    for number in (-1, 6):
        with pytest.raises(ValueError, match=f"of table must be 0 to 5, not {number}"):
            Scalar(table, number)
    builder.vector(x, out, Epilogue(Scalar(table)))
    with pytest.raises(ValueError, match="must be of one table, table, not of other"):
        builder.vector(x, builder.empty(3, 4), Epilogue(imm1=Scalar(other), scale=1.0))
    less = ProgramBuilder(AcceleratorConfig("posit8", dim=4))
    table = less.empty(1, 1, "bf16")
    for epilogue in (Epilogue(Scalar(table)), Epilogue(amax=True),
                     Epilogue(function=Function.SILU_SLOPE)):
        with pytest.raises(ValueError, match="functions must be training in a build that .*'all'"):
            less.vector(less.empty(3, 4), less.empty(3, 4), epilogue)


def test_programs_without_any_of_it_are_of_isa_1_0():
    builder = built()
    builder.gemm(builder.empty(3, 4), builder.empty(4, 5), builder.empty(3, 5),
                 Epilogue(0.5, function=Function.GELU))
    memory, address = builder.build()
    told = header(memory, address, builder.base)
    assert told["isa_minor"] == 0 and told["scalars"] == 0
    assert not Feature(told["features"]) & Feature.BACKWARD


def test_an_odd_table_and_one_outside_memory():
    builder = built()
    table = builder.constant(np.ones((1, 4)), "bf16")
    x, out = builder.empty(3, 4), builder.empty(3, 4)
    builder.vector(x, out, Epilogue(0.5))
    builder.vector(x, out, Epilogue(Scalar(table, 3)))
    for address, cause in ((table.address + 1, ErrorCause.MISALIGNED), (16, ErrorCause.READ_ERROR),
                           (1 << 63, ErrorCause.READ_ERROR)):
        memory, start = builder.build(scalars=address)
        ending = Machine(TRAINING).run(memory, start, builder.base)
        # A fence stands before the second, which writes the same result.
        assert (ending.error, ending.commands) == (cause, 2)
        assert ending.error_address == start + HEADER_BYTES + 2 * 128
    # An odd table that no command takes from.
    builder = built()
    builder.vector(builder.empty(3, 4), builder.empty(3, 4))
    run(builder, scalars=0x4001)


def test_an_image_has_its_scalars(tmp_path):
    builder = built()
    table = builder.constant(np.ones((1, 4)), "bf16")
    builder.vector(builder.empty(3, 4), builder.empty(3, 4), Epilogue(Scalar(table, 3)))
    image = ProgramImage.of(builder)
    image.save(tmp_path / "program.safetensors")
    assert ProgramImage.load(tmp_path / "program.safetensors").features & Feature.BACKWARD
    ProgramImage.of(builder, scalars=table.address).check()
    with pytest.raises(ImageError, match="scalar of the command at .*, 2 bytes at 0x3fff6, must"):
        ProgramImage.of(builder, scalars=0x3FFF0).check()
    with pytest.raises(ImageError, match="on a build with BACKWARD"):
        image.require(AcceleratorConfig("posit8", dim=4))


def test_text():
    builder = built()
    table = builder.constant(np.ones((1, 20)), "bf16")
    x = builder.empty(3, 4)
    builder.gemm(x, builder.empty(4, 4), builder.empty(3, 4),
                 Epilogue(Scalar(table, 12), amax=True, function=Function.GELU_SLOPE))
    builder.vector(x, builder.empty(3, 1, "bf16"), Epilogue(
        0.0, imm1=Scalar(table, 3), row_result=True, instructions=(
            Instruction(reduce=Reduce.MAX, post=Post.POWER),
            Instruction(multiply=Operand.IMM0, add=Operand.A, scale=Operand.IMM1,
                        destination=Destination.MEMORY))))
    memory, address = builder.build()
    lines = disassemble(memory, address, builder.base)
    assert f", scalars {table.address:#x}" in lines[0] and "isa 1.1" in lines[0]
    assert lines[1].endswith(", IMM0 scalar 12: gelu_slope(x × IMM0) amax→A →MEMORY")
    assert lines[2].endswith(", IMM0 0, IMM1 scalar 3: x power max→R0; (x × IMM0 + A) × IMM1 "
                             "→MEMORY")
    assert not any("{" in line or "=" in line for line in lines)
    assert assemble("\n".join(lines)) == program_bytes(memory, address, builder.base)


@LANES
def test_the_largest_magnitude_is_that_of_every_word_stored(fmt):
    """Over rows, blocks and commands; transposed, strided, of a column alone; NaN wins."""
    rng, cases = np.random.default_rng(8), 0
    for _ in range(60):
        builder = built(fmt)
        table = builder.constant(rng.uniform(0.3, 3, (1, 2)), "bf16")
        wanted, wide = 0.0, []
        for _ in range(int(rng.integers(1, 4))):
            m, n = (int(size) for size in rng.integers(1, 30, 2))
            values = rng.normal(size=(m, n)) * 2.0 ** rng.integers(-9, 9)
            if rng.random() < 0.15:
                values.flat[rng.integers(values.size)] = np.nan
            x = builder.constant(values, "bf16" if rng.random() < 0.5 else None)
            transposed, column = bool(rng.random() < 0.4), bool(rng.random() < 0.2)
            shape = (m, 1 if column else n)
            out = builder.empty(*(shape[::-1] if transposed else shape), "bf16",
                                stride=2 * (max(shape) + int(rng.integers(4))))
            factor = Scalar(table, 1) if rng.random() < 0.5 else float(rng.normal())
            builder.vector(x, out, Epilogue(factor, row_result=column, amax=True),
                           out_transposed=transposed)
            wide.append(out)
        largest, again = builder.empty(1, 1, "bf16"), builder.empty(1, 1, "bf16")
        zero = builder.constant([[0.0]], "bf16")
        builder.vector(zero, largest, STORE_A)
        builder.vector(zero, again, STORE_A)
        memory = run(builder)
        for tensor in wide:
            found = np.abs(read(memory, tensor, builder.base))
            wanted = np.max([wanted, found.max()])
            cases += found.size
        assert np.array_equal(read(memory, largest, builder.base), [[wanted]], equal_nan=True)
        # After a command that reads it, it is +0.
        assert read_codes(memory, again, builder.base).tolist() == [[0]]
    print(f"{fmt}: {cases} words in 60 programs")


def test_a_command_reads_what_the_register_held_when_it_began():
    builder = built()
    x = builder.constant([[3.0, -7.0, 1.0]], "bf16")
    builder.vector(x, builder.empty(1, 3), Epilogue(amax=True))
    out = builder.empty(1, 3, "bf16")
    builder.vector(x, out, Epilogue(instructions=(
        Instruction(add=Operand.A, destination=Destination.BUFFER),
        Instruction(add=Operand.A, destination=Destination.MEMORY))))
    memory = run(builder)
    assert read(memory, out, builder.base).tolist() == [[17.0, 7.0, 15.0]]


def test_amax_of_a_list():
    stored = Instruction(destination=Destination.MEMORY)
    kept = Instruction(destination=Destination.BUFFER)
    steps = Epilogue(instructions=(stored, kept, stored), amax=True).lower(False)
    assert [step.reduce for step in steps] == [Reduce.AMAX, Reduce.NONE, Reduce.AMAX]
    assert [step.reduce for step in Epilogue(softmax=True, amax=True).lower(False)] == [
        Reduce.MAX, Reduce.SUM, Reduce.AMAX]
    with pytest.raises(ValueError, match="amax must not be set where an instruction that stores"):
        Epilogue(instructions=(Instruction(reduce=Reduce.SUM, destination=Destination.MEMORY),),
                 amax=True).lower(False)


def test_a_scale_brings_the_largest_magnitude_into_one_octave():
    """The delayed scale: amax stored, its maximum with the history, the power, and its inverse."""
    builder = built()
    rng = np.random.default_rng(2)
    history = builder.constant(np.abs(rng.normal(size=(5, 10))) * 2.0 ** rng.integers(
        -20, 20, (5, 1)), "bf16")
    scales, inverses = builder.empty(5, 1, "bf16"), builder.empty(5, 1, "bf16")
    power = Instruction(reduce=Reduce.MAX, post=Post.POWER)
    builder.vector(history, scales, Epilogue(0.0, imm1=64.0, row_result=True, instructions=(
        power, Instruction(multiply=Operand.IMM0, add=Operand.R0, scale=Operand.IMM1,
                           destination=Destination.MEMORY))))
    builder.vector(scales, inverses, Epilogue(0.0, imm1=2.0, row_result=True, instructions=(
        power, Instruction(multiply=Operand.IMM0, add=Operand.R0, scale=Operand.IMM1,
                           destination=Destination.MEMORY))))
    memory = run(builder)
    found, inverse, past = (read(memory, tensor, builder.base)
                            for tensor in (scales, inverses, history))
    scaled = past.max(axis=1, keepdims=True) * found
    assert ((scaled >= 32) & (scaled < 64)).all()
    assert np.array_equal(found * inverse, np.ones((5, 1)))
