import dataclasses
import itertools

import numpy as np
import pytest

from compiler.program.assembly.listing import disassemble
from compiler.program.builder import ProgramBuilder, read, read_codes
from compiler.program.epilogue import Epilogue, softmax
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor, overlap
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    Destination,
    Feature,
    Function,
    Opcode,
    Operand,
    Reduce,
    features_of,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, POSIT8
from hdl.spec.timing import row_fits
from sim.model import codec
from sim.model.machine import Machine


def config(**changes):
    return AcceleratorConfig(**{"dim": 4, "acc_depth": 16} | changes)


def commands(memory, address, base=0):
    image = memory.tobytes()[address - base:]
    count = unpack(HEADER, image[:HEADER_BYTES])["commands"]
    starts = range(HEADER_BYTES, HEADER_BYTES + count * COMMAND_BYTES, COMMAND_BYTES)
    return [unpack(COMMAND, image[start:start + COMMAND_BYTES]) for start in starts]


def opcodes(builder):
    return [Opcode(c["opcode"]) for c in commands(*builder.build(), builder.base)]


def values(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns))


def bytes_of(tensor):
    return {tensor.address + row * tensor.stride + byte
            for row in range(tensor.rows) for byte in range(tensor.row_bytes)}


def test_overlap_is_exact_for_one_stride_and_never_misses():
    shapes = [(rows, columns, stride) for rows in (1, 2, 3) for columns in (1, 2, 4)
              for stride in (4, 5)]
    cases = exact = 0
    for one, two in itertools.product(shapes, repeat=2):
        for distance in range(-18, 19):
            first = Tensor("first", 100, one[0], one[1], POSIT8, one[2])
            second = Tensor("second", 100 + distance, two[0], two[1], POSIT8, two[2])
            meet = bool(bytes_of(first) & bytes_of(second))
            found = overlap(first, second)
            assert found or not meet, (first, second)
            if one[2] == two[2]:
                assert found == meet, (first, second)
                exact += 1
            cases += 1
    assert cases == 324 * 37 and exact == cases // 2


def test_tensors_lie_where_asked_and_never_meet():
    builder = ProgramBuilder(config(), base=0x1000)
    first = builder.constant(values(3, 5), stride=9, align=1, skew=3)
    second = builder.constant(values(2, 4), "bf16", align=32, skew=6, stride=14)
    third = builder.empty(1, 7)
    assert first.address == 0x1003 and first.stride == 9
    assert second.address % 32 == 6 and third.address % builder.config.bus_bytes == 0
    assert not (bytes_of(first) & bytes_of(second) or bytes_of(second) & bytes_of(third))
    memory, address = builder.build(seed=1)
    assert address % 64 == 0 and memory.size % 64 == 0
    assert np.array_equal(read_codes(memory, first, 0x1000), codec.encode(POSIT8, values(3, 5)))
    assert np.array_equal(read_codes(memory, second, 0x1000),
                          codec.encode(BF16_ENCODING, values(2, 4)))
    assert np.array_equal(read(memory, first, 0x1000), codec.decode(
        POSIT8, codec.encode(POSIT8, values(3, 5))))


def test_codes_are_stored_as_they_are():
    builder = ProgramBuilder(config(fmt="bf16"))
    codes = np.array([[0x7FC0, 0x8000, 1]])
    tensor = builder.codes(codes)
    memory, _ = builder.build()
    assert np.array_equal(read_codes(memory, tensor), codes)
    assert bytes(memory[tensor.address:tensor.address + 6]) == bytes.fromhex("c07f00800100")


def test_block_is_a_view():
    builder = ProgramBuilder(config())
    codes = np.arange(24).reshape(4, 6)
    tensor = builder.codes(codes)
    memory, _ = builder.build()
    assert np.array_equal(read_codes(memory, tensor.block(1, 2, 3, 4)), codes[1:4, 2:6])


@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
@pytest.mark.parametrize("flip_a", [False, True])
@pytest.mark.parametrize("flip_b", [False, True])
def test_gemm_with_epilogue_is_near_the_real_product(fmt, flip_a, flip_b):
    builder = ProgramBuilder(config(fmt=fmt, acc="fp32"), base=0x4000)
    a, b, bias = values(5, 7), values(7, 9, 1), values(1, 9, 2)
    x = builder.constant(a.T if flip_a else a, align=1, skew=2)
    w = builder.constant(b.T if flip_b else b, stride=32)
    y = builder.constant(bias, "bf16")
    out = builder.empty(5, 9, "bf16", stride=30)
    builder.gemm(x, w, out, Epilogue(scale=0.5, bias=y, relu=True), a_transposed=flip_a,
                 b_transposed=flip_b)
    memory, address = builder.build(seed=2)
    outcome = Machine(builder.config).run(memory, address, 0x4000)
    assert outcome.error is None
    x, w = read(memory, x, 0x4000), read(memory, w, 0x4000)
    product = (x.T if flip_a else x) @ (w.T if flip_b else w)
    wanted = np.maximum(product * 0.5 + read(memory, y, 0x4000), 0)
    assert np.allclose(read(memory, out, 0x4000), wanted, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
@pytest.mark.parametrize("encoding", [None, "bf16"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_transposed_result_holds_the_same_codes(fmt, encoding, soft):
    builder = ProgramBuilder(config(fmt=fmt))
    x = builder.constant(values(5, 7))
    kinds = [builder.empty(5, 9, encoding), builder.empty(9, 5, encoding, stride=24),
             builder.empty(7, 5, encoding), builder.empty(5, 7, encoding)]
    w, y = builder.constant(values(7, 9, 1)), builder.constant(values(5, 9, 2))
    epilogue = Epilogue(softmax=True) if soft else Epilogue(relu=True, bias=y)
    for out in kinds[:2]:
        builder.gemm(x, w, out, epilogue, out_transposed=out is kinds[1])
    for out in kinds[2:]:
        builder.vector(x, out, Epilogue(softmax=soft), out_transposed=out is kinds[2])
    memory, address = builder.build(seed=3)
    assert Machine(builder.config).run(memory, address).error is None
    codes = [read_codes(memory, out) for out in kinds]
    assert np.array_equal(codes[0], codes[1].T) and np.array_equal(codes[2].T, codes[3])
    assert np.unique(codes[0]).size > 3
    with pytest.raises(ValueError, match="must be 9×5, not 5×9"):
        builder.gemm(x, w, kinds[0], out_transposed=True)


@pytest.mark.parametrize("fmt", ["posit8", "e4m3", "bf16"])
@pytest.mark.parametrize("biased", [False, True])
def test_softmax_streamed_gives_the_bits_of_softmax_on_chip(fmt, biased):
    columns, codes = 100, []
    for depth in (16, 64):
        build = config(fmt=fmt, acc_depth=depth)
        assert row_fits(build, columns) == (depth == 64)
        builder = ProgramBuilder(build)
        x, w = builder.constant(values(3, 8)), builder.constant(values(8, columns, 1))
        # FP32 lanes lose bits on the way through the BF16 tensor; a zero bias keeps them apart.
        bias = builder.constant(values(1, columns, 2), "bf16") if biased else None
        out = builder.empty(3, columns)
        builder.gemm(x, w, out, Epilogue(scale=0.5, softmax=True, bias=bias))
        memory, address = builder.build()
        kinds = [c["opcode"] for c in commands(memory, address)]
        assert (Opcode.VECTOR in kinds) == (biased and depth == 16)
        assert Machine(build).run(memory, address).error is None
        codes.append(read(memory, out))
        assert np.allclose(codes[-1].sum(axis=1), 1, atol=0.2)
    if fmt == "bf16" and biased:
        assert np.allclose(*codes, rtol=0.1)
    else:
        assert np.array_equal(*codes)


def test_vector_softmax_and_function():
    builder = ProgramBuilder(config(softmax="pwl"))
    x = builder.constant(values(4, 6), "bf16")
    e, p = builder.empty(4, 6, "bf16"), builder.empty(4, 6, "bf16")
    builder.vector(x, e, Epilogue(function=Function.EXP, scale=2))
    builder.vector(x, p, Epilogue(softmax=True))
    memory, address = builder.build()
    assert Machine(builder.config).run(memory, address).error is None
    assert np.allclose(read(memory, e), np.exp(2 * read(memory, x)), rtol=0.02)
    exact = np.exp(read(memory, x))
    assert np.allclose(read(memory, p), exact / exact.sum(axis=1, keepdims=True), rtol=0.03)


def test_fences_stand_where_commands_would_race():
    builder = ProgramBuilder(config())
    x, w = builder.constant(values(4, 4)), builder.constant(values(4, 4))
    first, second, third = (builder.empty(4, 4) for _ in range(3))
    builder.gemm(x, w, first)
    builder.gemm(x, w, second)
    builder.gemm(first, w, third)
    builder.gemm(x, w, first)
    builder.gemm(x, w, first)
    assert opcodes(builder) == [
        Opcode.GEMM, Opcode.GEMM, Opcode.FENCE, Opcode.GEMM, Opcode.FENCE, Opcode.GEMM,
        Opcode.FENCE, Opcode.GEMM, Opcode.END]


def test_column_blocks_of_one_matrix_need_no_fence():
    builder = ProgramBuilder(config())
    x, w, out = builder.constant(values(4, 4)), builder.constant(values(4, 4)), builder.empty(4, 8)
    for column in (0, 4):
        builder.gemm(x, w, out.block(0, column, 4, 4))
    assert opcodes(builder) == [Opcode.GEMM, Opcode.GEMM, Opcode.END]


def test_header_asks_for_what_the_program_uses():
    build = config(fmt="fp8")
    builder = ProgramBuilder(build)
    x = builder.constant(values(2, 2), "e5m2")
    builder.vector(x, builder.empty(2, 2, "e5m2"), Epilogue(relu=True))
    header = unpack(HEADER, builder.build()[0].tobytes()[64:128])
    assert header["features"] == Feature.E5M2 and header["config_hash"] == build.hash
    builder.gemm(builder.constant(values(2, 2)), x, builder.empty(2, 2), Epilogue(softmax=True))
    memory, address = builder.build()
    needed = unpack(HEADER, memory.tobytes()[address:])["features"]
    assert needed == features_of(build) & ~Feature.FUNCTIONS
    last = commands(memory, address)[-2]
    assert (last["a_e5m2"], last["b_e5m2"], last["c_e5m2"]) == (0, 1, 0)
    builder.vector(x, builder.empty(2, 2, "e5m2"), Epilogue(function=Function.SILU))
    memory, address = builder.build()
    assert unpack(HEADER, memory.tobytes()[address:])["features"] == features_of(build)


def test_instruction_words_round_trip():
    step = Instruction(multiply=Operand.IMM1, add=Operand.Y, subtract=True, function=Function.EXP,
                       scale=Operand.R1, relu=True, y=1, reduce=Reduce.SUM, reduce_to=1,
                       destination=Destination.BUFFER)
    assert Instruction.from_word(step.word(True)) == step
    assert unpack(INSTRUCTION, step.word(True).to_bytes(4, "little"))["last"] == 1
    with pytest.raises(ValueError):
        Instruction.from_word(11 << 7)


def test_disassembly_has_a_line_for_each_command():
    builder = ProgramBuilder(config())
    x = builder.constant(values(3, 5))
    out = builder.empty(3, 2)
    builder.gemm(x, builder.constant(values(2, 5)), out, Epilogue(scale=2, softmax=True),
                 b_transposed=True)
    builder.vector(out, builder.empty(3, 2, "bf16"), Epilogue(bias=builder.constant(values(1, 2))))
    builder.command(opcode=200)
    memory, address = builder.build()
    lines = disassemble(memory, address)
    assert len(lines) == 1 + 5 and "commands 5" in lines[0] and "POSIT8" in lines[0]
    assert f"{address + 64:#010x} gemm   3×5×2 A@0x0/5 · Bᵀ@0x20/5" in lines[1]
    assert lines[1].endswith("IMM0 2: IMM0 × row max→R0; exp(x × IMM0 − R0) 1/sum→R1; "
                             "exp(x × IMM0 − R0) × R1 →MEMORY")
    assert "fence" in lines[2] and "C.bf16@" in lines[3] and lines[3].endswith("x + Y0 →MEMORY")
    assert lines[4].endswith("opcode 200") and lines[5].endswith("end")


def test_a_misspelt_option_fails_at_once():
    builder = ProgramBuilder(config())
    x, out = builder.empty(2, 3), builder.empty(2, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sclae'"):
        Epilogue(sclae=0.5)
    for emit in (builder.vector, lambda x, out, **options: builder.gemm(x, x, out, **options)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'scale'"):
            emit(x, out, scale=0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Epilogue().scale = 0.5
    assert opcodes(builder) == [Opcode.END]


def wrong_k(b):
    b.gemm(b.empty(2, 3), b.empty(4, 5), b.empty(2, 5))


def wrong_out(b):
    b.gemm(b.empty(2, 3), b.empty(3, 5), b.empty(2, 4))


def wide_operand(b):
    b.gemm(b.empty(2, 3, "bf16"), b.empty(3, 5), b.empty(2, 5))


def wrong_bias(b):
    b.vector(b.empty(4, 3), b.empty(4, 3), Epilogue(bias=b.empty(2, 3)))


def product_in_place(b):
    x = b.empty(3, 3)
    b.gemm(x, b.empty(3, 3), x)


def softmax_relu(b):
    b.vector(b.empty(2, 3), b.empty(2, 3), Epilogue(softmax=True, relu=True))


def softmax_beside_instructions(b):
    b.vector(b.empty(2, 3), b.empty(2, 3), Epilogue(softmax=True, instructions=[Instruction()]))


def no_instruction(b):
    b.vector(b.empty(2, 3), b.empty(2, 3), Epilogue(instructions=[]))


@pytest.mark.parametrize("misuse, message", [
    (wrong_k, "tensor 1 must have K = 3 as tensor 0 has, not 4"),
    (wrong_out, "tensor 2 must be 2×5, not 2×4"),
    (wide_operand, "tensor 0 must hold posit8 as an operand of a GEMM, not bf16"),
    (wrong_bias, "tensor 2 must be 1×3 or 4×3, not 2×3"),
    (product_in_place, "tensor 0 must not overlap the operand tensor 0"),
    (softmax_relu, "softmax must not be combined with relu or a function"),
    (softmax_beside_instructions, "instructions must say all of an epilogue, without softmax"),
    (no_instruction, "instructions must be 1 to 8, not 0"),
    (lambda b: b.empty(2, 3, "e4m3"), "encoding must be one of posit8, bf16, not 'e4m3'"),
    (lambda b: b.empty(0, 3), "tensor 0 must have at least one row and one column, not 0×3"),
    (lambda b: b.empty(2, 3, stride=2), "stride of tensor 0 must be at least 3, not 2"),
    (lambda b: b.empty(2, 3, "bf16", skew=1), "address and stride of tensor 0 must be even"),
    (lambda b: b.empty(2, 3).block(0, 1, 2, 3), "block of tensor 0 must lie inside 2×3"),
    (lambda b: b.codes([[256]]), "codes of tensor 0 must fit 8 bits"),
    (lambda b: b.command(opcode=256), "opcode must fit 8 bits, not 256"),
    (lambda b: ProgramBuilder(b.config, base=32), "base must be a multiple of 64, not 32"),
])
def test_misuse_is_one_clear_line(misuse, message):
    with pytest.raises(ValueError) as raised:
        misuse(ProgramBuilder(config()))
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


@pytest.mark.parametrize("fmt, acc", [("posit8", "bf16"), ("posit8", "exact"), ("fp8", "fp32"),
                                      ("e5m2", "bf16"), ("bf16", "fp32")])
@pytest.mark.parametrize("scale", [None, 0.3, 1e30])
def test_softmax_behind_row_maxima_gives_the_bits_of_three_passes(fmt, acc, scale):
    # Rounding to nearest is monotone: scale · max(x) has the bits of max(scale · x).
    builder = ProgramBuilder(config(fmt=fmt, acc=acc))
    x = values(9, 40) * np.array([[1e-4], [0.1], [1], [1], [1], [30], [1], [0], [1]])
    x[3, 5] = np.nan
    x, y = builder.constant(x), builder.constant(values(40, 21, 1))
    outs = [builder.empty(9, 21, "bf16") for _ in range(2)]
    builder.gemm(x, y, outs[0], Epilogue(scale=scale, softmax=True))
    builder.gemm(x, y, outs[1], Epilogue(scale=1 if scale is None else scale,
                                         instructions=softmax(scale is not None, False)))
    memory, address = builder.build()
    first, second = commands(memory, address)[:2]
    assert (first["row_max"], second["row_max"]) == (1, 0)
    assert Machine(builder.config).run(memory, address).error is None
    codes = [read_codes(memory, out) for out in outs]
    assert np.array_equal(*codes) and np.unique(codes[0]).size > 3


@pytest.mark.parametrize("options", [{"scale": -0.5}, {"scale": 0}, {"scale": 1e-39},
                                     {"scale": np.inf}, {"bias": True}, {"columns": 70}])
def test_softmax_takes_row_maxima_only_where_they_are_right(options):
    builder = ProgramBuilder(config(acc_depth=16))
    columns = options.get("columns", 9)
    options = {name: value for name, value in options.items() if name != "columns"}
    if "bias" in options:
        options["bias"] = builder.constant(values(1, columns))
    builder.gemm(builder.constant(values(3, 5)), builder.constant(values(5, columns)),
                 builder.empty(3, columns), Epilogue(softmax=True, **options))
    assert commands(*builder.build())[0]["row_max"] == 0
