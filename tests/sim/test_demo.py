from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import minilm, small
from compiler.lowering.heads import lower
from hdl.spec.commands import ErrorCause
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim import demo
from sim.campaigns.cells import cells, sample
from sim.harness import accelerator
from sim.harness.accelerator import Result
from sim.model.machine import Machine
from sim.verify.compare import compare
from sim.verify.heads import expected
from sim.verify.runner import ImageRun, on_machine
from support.require import require
from tools.train import train_small

# Largest mean error of O that a format may show on the small layer with exact enough softmax;
# O itself reaches 8.
MEAN_ERROR = {"bf16": 0.02, "e5m2": 0.4}
UNSCALED = 8.0  # of int8, whose weights and probabilities below one half are stored as zeros


def result(capsys):
    return capsys.readouterr().out.strip().splitlines()


@pytest.mark.parametrize("softmax", SOFTMAX_MODES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_small_layer_on_the_machine(fmt, softmax, capsys):
    code = demo.main(["--fmt", fmt, "--softmax", softmax, "--small", "--on", "machine",
                      "--all-heads", "--tokens", "20"])
    lines = result(capsys)
    count = 4 * 20 * (4 * 16 + 20) * FORMATS[fmt].storage_bits // 8
    assert code == 0 and lines[-1] == f"bytes compared: {count}, mismatches: 0"
    assert f"softmax {softmax}" in lines[-2]
    mean = float(lines[-2].split("mean ")[1].split(",")[0])
    limit = MEAN_ERROR.get(fmt, 0.2) if softmax == "pwl" else 0.7
    assert 0 < mean < (UNSCALED if fmt == "int8" else limit)


def test_small_layer_on_rtl(capsys):
    # The other modes and formats are in test_matrix.py.
    cell = sample(cells())[0]
    code = demo.main(["--fmt", cell.fmt, "--acc", cell.acc, "--softmax", cell.softmax, "--small",
                      "--dim", "4", "--tokens", "12"])
    check_rtl(code, result(capsys), cell.softmax, 12 * (4 * 16 + 12))


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_minilm_on_rtl(fmt, capsys):
    require(minilm.load, 32)
    code = demo.main(["--fmt", fmt])
    check_rtl(code, result(capsys), FORMATS[fmt].default_softmax,
              32 * (4 * 32 + 32) * FORMATS[fmt].storage_bits // 8)


def check_rtl(code, lines, softmax, count):
    assert code == 0 and lines[-1] == f"bytes compared: {count}, mismatches: 0"
    assert f"softmax {softmax}" in lines[-2] and any("on the RTL" in line for line in lines)
    assert any(line.startswith("cycles: ") for line in lines)


class Device:
    """In the RTL's place: the machine model, with one fault that a run must report."""

    fault = None

    def __init__(self, config, **_):
        self.config = config

    def run(self, memory, address, base, *, seed, **_):
        image = memory.copy()
        outcome = Machine(self.config).run(memory, address, base)
        written = (image != memory).astype(np.uint8)
        if self.fault == "byte":
            memory[np.flatnonzero(written)[-1]] ^= 1
        elif self.fault == "stray":
            written[0] = 1
        error = ErrorCause.READ_ERROR if self.fault == "error" else outcome.error
        violations = ["RLAST missing"] if self.fault == "violation" else []
        return Result(error, (), 0x40, 0, 0, 0, 1000, {}, {}, violations, written)


@pytest.mark.parametrize("fault, code, message", [
    (None, 0, "bytes compared: 2560, mismatches: 0"),
    ("byte", 1, "bytes compared: 2560, mismatches: 1"),
    ("stray", 1, "bytes compared: 2560, mismatches: 1"),
    ("error", 1, "error: the accelerator stopped with READ_ERROR at 0x40"),
    ("violation", 1, "error: AXI rules broken 1 times, first: RLAST missing"),
])
def test_faults_of_the_rtl_are_reported(fault, code, message, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "Accelerator", Device)
    monkeypatch.setattr(Device, "fault", fault)
    assert demo.main(["--small", "--tokens", "16", "--fmt", "bf16"]) == code
    captured = capsys.readouterr()
    assert (captured.out + captured.err).strip().splitlines()[-1] == message
    if fault is None:
        share = 16 * 16 * (3 * 64 + 2 * 16) / (16 ** 2 * 1000)
        assert f"cycles: 1000, utilisation {share:.1%}" in captured.out


def test_a_wrong_byte_anywhere_is_counted():
    config = AcceleratorConfig(dim=4)
    layer = small.load(6)
    program = lower(config, layer, [1], base=0x2000)
    reference = expected(config, layer, [1])
    run = on_machine(program.image, config)
    memory = run.memory
    assert compare(program, run, reference).mismatches == 0
    memory[program.results["P1"].address - 0x2000 + 7] ^= 1
    memory[program.results["O"].address - 0x2000] ^= 0x80
    memory[0] ^= 1
    found = compare(program, run, reference)
    assert (found.differing["P1"], found.differing["O"], found.stray) == (1, 1, 1)
    assert found.mismatches == 3 and found.total == 6 * (4 * 16 + 6)
    written = np.zeros_like(memory)
    written[program.results["Q"].address - 0x2000] = 1
    assert compare(program, replace(run, written=written), reference).stray == 0
    written[1] = 2
    assert compare(program, replace(run, written=written), reference).stray == 1
    wanted = memory.copy()
    wanted[program.results["Q"].address - 0x2000] ^= 1  # a result: not stray
    wanted[2] ^= 1
    assert compare(program, replace(run, written=written, wanted=wanted), reference).stray == 2


def test_a_mismatch_is_exit_code_1(monkeypatch, capsys):
    honest = demo.expected

    def wrong(*arguments):
        return honest(*arguments) | {"O": 255 - honest(*arguments)["O"]}

    monkeypatch.setattr(demo, "expected", wrong)
    assert demo.main(["--small", "--on", "machine", "--tokens", "4"]) == 1
    assert result(capsys)[-1] == f"bytes compared: {4 * 68}, mismatches: {4 * 16}"


def test_memory_that_stays_unwritten_does_not_match():
    config = AcceleratorConfig(dim=4)
    layer = small.load(6)
    program = lower(config, layer, [0], seed=3)
    run = ImageRun("nowhere", program.memory.copy())
    found = compare(program, run, expected(config, layer, [0]))
    assert found.mismatches > 0.9 * found.total


def test_heads_must_be_consecutive():
    with pytest.raises(ValueError, match=r"heads must be consecutive, not \[0, 2\]"):
        lower(AcceleratorConfig(), small.load(4), [0, 2])


@pytest.mark.parametrize("arguments, message", [
    (["--fmt", "posit9"], "format must be one of"),
    (["--dim", "3.5"], "dim must be a power of two from 4 to 128, not '3.5'"),
    (["--lanes", "3.5"], "lanes must be a power of two from 4 to 16, not '3.5'"),
    (["--dim", "0"], "dim must be a power of two from 4 to 128, not 0"),
    (["--small", "--head", "4"], "head must be from 0 to 3, not 4"),
    (["--small", "--tokens", "0"], "--tokens must be an integer from 1 up, not 0"),
    (["--small", "--tokens", "513"], "tokens must be from 1 to 512, not 513"),
    (["--fmt", "bf16", "--acc", "bf16"], "acc must be fp32 for format bf16"),
])
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        demo.main([*arguments, "--on", "machine"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and message in error and error.count("\n") == 1


def test_no_model_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        demo.main(["--offline", "--on", "machine"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and "--small needs no network" in error


@pytest.mark.parametrize("tokens, arguments, count", [
    (32, ["--head", "5", "--list"], 4 * 32 * 32 + 32 * 32),
    (128, ["--all-heads", "--fmt", "fp8"], 4 * 128 * 384 + 12 * 128 * 128),
])
def test_minilm_on_the_machine(tokens, arguments, count, capsys):
    layer = require(minilm.load, tokens)
    assert layer.x.shape == (tokens, 384) and layer.head_size == 32
    assert demo.main(["--on", "machine", "--tokens", str(tokens), *arguments]) == 0
    assert result(capsys)[-1] == f"bytes compared: {count}, mismatches: 0"


def test_committed_weights_solve_their_task():
    with np.load(small.WEIGHTS) as file:
        weights = {name: file[name].astype(np.float64) for name in file.files}
    symbols = np.random.default_rng(99).integers(0, small.SYMBOLS, (4, 32))
    x = small.layer_input(weights["embeddings"], symbols)
    _, accuracy, _ = train_small.step(weights, x, symbols)
    assert accuracy > 0.98
    assert train_small.step(train_small.initial(np.random.default_rng(1)), x, symbols)[1] < 0.3


def test_gradients_are_those_of_the_loss():
    rng = np.random.default_rng(5)
    weights = train_small.initial(rng)
    symbols = rng.integers(0, small.SYMBOLS, (2, 6))
    x = small.layer_input(small.embeddings(rng), symbols)
    loss, _, gradients = train_small.step(weights, x, symbols)
    checked = 0
    for name, gradient in gradients.items():
        index = tuple(rng.integers(0, size) for size in gradient.shape)
        moved = {n: w.copy() for n, w in weights.items()}
        moved[name][index] += 1e-5
        slope = (train_small.step(moved, x, symbols)[0] - loss) / 1e-5
        assert slope == pytest.approx(gradient[index], rel=1e-2, abs=1e-6), name
        checked += 1
    assert checked == 7


def test_layer_reference_is_softmax_attention():
    layer = small.load(5)
    head = layer.head(2)
    assert np.allclose(head.p.sum(axis=1), 1, atol=1e-5) and head.o.shape == (5, 16)
    assert np.allclose(head.o, head.p @ head.v)
