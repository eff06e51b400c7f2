"""LayerNorm, RMSNorm and the functions as lists of instructions: RTL, model, real arithmetic."""

import math

import numpy as np
import pytest

from compiler.lowering import lists, operations
from compiler.program.assembly.listing import disassemble
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine
from sim.model.rounding import round_to, to_words
from support.builds import tiny

EPS = 1e-5
ROWS, COLUMNS = 7, 21


def case_of(config, emit, rows=ROWS, columns=COLUMNS, seed=0):
    """A program that ``emit(builder, rng, out)`` writes; its only output is ``out``, BF16."""
    rng = np.random.default_rng(seed)
    builder = ProgramBuilder(config, BASE)
    out = builder.empty(rows, columns, "bf16")
    truth = emit(builder, rng, out)
    memory, address = builder.build(seed=seed)
    return Case(memory, address, BASE, (out,), emit.__name__), truth


def tensors(builder, rng, out):
    """x, gamma and beta, with what they hold."""
    def placed(values):
        tensor = builder.constant(values, "bf16")
        return tensor, values.astype(np.float32).astype(np.float64)

    def bf16(values):
        return (np.asarray(values, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)

    rows, columns = out.shape
    return (placed(bf16(rng.normal(0.5, 2, (rows, columns)))),
            placed(bf16(rng.normal(1, 0.2, (1, columns)))),
            placed(bf16(rng.normal(0, 0.2, (1, columns)))))


def layer_norm(builder, rng, out):
    (x, xs), (gamma, gammas), (beta, betas) = tensors(builder, rng, out)
    builder.vector(x, out, lists.layer_norm(gamma, beta, EPS))
    centred = xs - xs.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred ** 2).mean(axis=1, keepdims=True) + EPS)
    return centred / deviation * gammas + betas


def rms_norm(builder, rng, out):
    (x, xs), (gamma, gammas), _ = tensors(builder, rng, out)
    builder.vector(x, out, lists.rms_norm(gamma, EPS))
    return xs / np.sqrt((xs ** 2).mean(axis=1, keepdims=True) + EPS) * gammas


def l2_norm(builder, rng, out):
    (x, xs), *_ = tensors(builder, rng, out)
    operations.l2_normalise(builder, x, out)
    return xs / np.sqrt((xs ** 2).sum(axis=1, keepdims=True))


def layer_norm_behind_gemm(builder, rng, out):
    _, (gamma, gammas), (beta, betas) = tensors(builder, rng, out)
    rows, columns = out.shape
    a = rng.integers(-2, 3, (rows, 9)).astype(float)
    b = rng.integers(-2, 3, (9, columns)).astype(float)
    builder.gemm(builder.constant(a), builder.constant(b), out,
                 lists.layer_norm(gamma, beta, EPS))
    x = a @ b
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred ** 2).mean(axis=1, keepdims=True) + EPS)
    return centred / deviation * gammas + betas


NORMS = (layer_norm, rms_norm, l2_norm, layer_norm_behind_gemm)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_norms_on_rtl(fmt, norm):
    machine = tiny(fmt)
    compared = 0
    for seed, (rows, columns) in enumerate([(ROWS, COLUMNS), (1, 1), (19, 4), (3, 64)]):
        case, _ = case_of(machine.config, norm, rows, columns, seed)
        compared += compare(machine, case, ("ideal", "heavy")[seed % 2], seed, rewrites=True)
    print(f"{norm.__name__} {fmt}: {compared} bytes")
    assert compared > 500


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_norms_are_near_the_real_ones(fmt, norm):
    config = tiny(fmt).config
    case, truth = case_of(config, norm, 40, 48)
    assert Machine(config).run(case.memory, case.address, BASE).error is None
    error = np.abs(read(case.memory, case.outputs[0], BASE) - truth)
    scaled = error / np.maximum(np.abs(truth), 1)
    print(f"{norm.__name__} {fmt}: {error.size} cases, error max {error.max():.4f}, relative to "
          f"what is above 1 {scaled.max():.4f}")
    # BF16 lanes round some four times on the way, FP32 lanes once on the way to memory.
    assert scaled.max() < (2.0 ** -6 if fmt == "posit8" else 2.0 ** -7)
    assert np.abs(truth).max() > 0.3


@pytest.mark.parametrize("eps", [0.0, 1e-40])
@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_a_row_without_spread_gives_zeros(fmt, eps):
    """1/√0 is the largest finite value of the lanes, not infinite: 0 · ∞ would be NaN."""
    machine = tiny(fmt)

    def emit(builder, rng, out):
        rows, columns = out.shape
        gamma, beta = (builder.constant(np.full((1, columns), value), "bf16") for value in (1, 0))
        same, nothing = (builder.constant(np.full((rows, columns), value), "bf16")
                         for value in (1, 0))
        builder.vector(same, out.block(0, 0, rows, columns), lists.layer_norm(gamma, beta, eps))
        builder.vector(nothing, out.block(0, 0, rows, columns), lists.rms_norm(gamma, eps))
        return np.zeros((rows, columns))

    case, truth = case_of(machine.config, emit)
    image = case.memory.copy()
    assert compare(machine, case, "light", 3, rewrites=True) == 2 * ROWS * COLUMNS
    outcome = Machine(machine.config).run(image, case.address, BASE)
    assert (outcome.error, outcome.nars) == (None, 0)
    assert np.array_equal(read(image, case.outputs[0], BASE), truth)


@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_nans_written_as_bf16_are_counted(fmt):
    machine = tiny(fmt)

    def emit(builder, rng, out):
        values = rng.normal(size=out.shape)
        values[0, :5] = np.nan, np.inf, -np.inf, np.nan, np.nan
        words = to_words(BFLOAT16, round_to(BFLOAT16, values))
        builder.vector(builder.codes(words, "bf16"), out, Epilogue())
        return values

    case, _ = case_of(machine.config, emit)
    image = case.memory.copy()
    assert compare(machine, case, "heavy", 1) == 2 * ROWS * COLUMNS
    # A bf16 build writes infinities as NaN, an 8-bit build leaves them in BF16 tensors.
    assert Machine(machine.config).run(image, case.address, BASE).nars == {"bf16": 5}.get(fmt, 3)


def test_a_long_row_streams_through_rms_norm_and_is_refused_by_layer_norm():
    machine = small_accelerator("posit8")
    columns = machine.config.acc_depth * machine.config.dim + 3
    case, _ = case_of(machine.config, rms_norm, 2, columns)
    assert compare(machine, case, "light", 1) == 2 * 2 * columns
    with pytest.raises(ValueError, match="a row that is kept on chip must have at most 64"):
        case_of(machine.config, layer_norm, 2, columns)


FUNCTIONS = {
    Function.GELU: lambda x: x * math.erfc(-x / math.sqrt(2)) / 2, Function.TANH: math.tanh,
    Function.SILU: lambda x: x / (1 + math.exp(-x)),
    Function.SIGMOID: lambda x: 1 / (1 + math.exp(-x)),
    Function.GELU_SIGMOID: lambda x: x / (1 + math.exp(-1.702 * x)),
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name.lower())
def test_functions_as_epilogues_on_rtl(function):
    machine = small_accelerator("posit8")

    def emit(builder, rng, out):
        rows, columns = out.shape
        a = rng.integers(-2, 3, (rows, 5)).astype(float)
        b = rng.integers(-1, 2, (5, columns)).astype(float)
        builder.gemm(builder.constant(a), builder.constant(b), out, Epilogue(function=function))
        return np.vectorize(FUNCTIONS[function])(a @ b)

    case, truth = case_of(machine.config, emit)
    image = case.memory.copy()
    assert compare(machine, case, "light", 3) == 2 * ROWS * COLUMNS
    Machine(machine.config).run(image, case.address, BASE)
    error = np.abs(read(image, case.outputs[0], BASE) - truth)
    assert error.max() <= max(2.0 ** -9, np.abs(truth).max() * 2.0 ** -8)


def test_disassembly_of_a_layer_norm():
    config = small_accelerator("posit8").config
    case, _ = case_of(config, layer_norm)
    header, line, end = disassemble(case.memory, case.address, BASE)
    assert "FUNCTIONS" in header and end.endswith("end")
    assert "inverse_n 0.04761905, epsilon 1e-05: " in line
    assert line.endswith(
        "x mean sum→R0; (x − R0) × self 1/√(mean sum + ε)→R1; (x − R0) × Y0 →BUFFER; "
        "x × R1 + Y1 →MEMORY")


def test_a_build_of_softmax_alone_takes_no_norm():
    config = AcceleratorConfig("posit8", dim=4, functions="softmax")
    with pytest.raises(ValueError, match="functions must be all .* not 'softmax'"):
        case_of(config, rms_norm)
