"""The command line that runs transformers: what it prints, its codes, its errors in one line."""

import re
import time

import numpy as np
import pytest

from compiler.checkpoints import load, source
from compiler.checkpoints.digits import DRAWN, patches
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.samples import SAMPLES
from compiler.lowering.fusion import FUSION_LEVELS
from compiler.program.image import ProgramImage
from compiler.training.adapters import save_adapters
from compiler.training.description import LowRank, Training
from compiler.training.gradients.bits import Bits
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.network import Batch, logits_of
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Weights
from compiler.training.trainer import Trainer
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING
from sim import run
from sim.harness import accelerator
from sim.harness.accelerator import Result
from sim.image import main as image_main
from sim.model import codec
from sim.model.machine import Machine
from sim.verify.expected import expected
from sim.verify.runner import RunError


def called(capsys, *arguments):
    code = run.main([*map(str, arguments)])
    return code, capsys.readouterr().out.strip().splitlines()


@pytest.mark.parametrize("fusion", FUSION_LEVELS)
@pytest.mark.parametrize("model", SAMPLES)
def test_samples_on_the_machine(model, fusion, capsys):
    code, lines = called(capsys, model, "--on", "machine", "--tokens", 6, "--fusion", fusion,
                         "--dim", 4, "--decode", 2 if model == "random-llama" else 0)
    assert code == 0
    assert lines[-1].startswith("bytes compared: ") and lines[-1].endswith("mismatches: 0")
    assert int(lines[-1].split()[2].rstrip(",")) > 150
    near = [float(line.split("cosine to fp32 ")[1].split(",")[0])
            for line in lines if "cosine" in line]
    assert len(near) >= 3 and min(near) > 0.9


class Device:
    """In the RTL's place: the machine model, with one fault that a run must report."""

    fault = None

    def __init__(self, config, **_):
        self.config = config

    def run(self, memory, address, base, *, seed, max_cycles, progress):
        before = memory.copy()
        outcome = Machine(self.config).run(memory, address, base)
        written = (memory != before).astype(np.uint8)
        if self.fault == "byte":
            memory[-1] ^= 1
        elif self.fault == "write":
            written[-1] = 1
        error = ErrorCause.READ_ERROR if self.fault == "error" else outcome.error
        violations = ["RLAST missing"] if self.fault == "violation" else []
        return Result(error, (), 0x40, 0, 0, 0, 1000, {}, {}, violations, written)


@pytest.mark.parametrize("fault, code, told", [
    (None, 0, "mismatches: 0"), ("byte", 1, "mismatches: 1"),
    ("write", 1, "mismatches: 1"),
    ("error", 1, "the accelerator stopped with READ_ERROR at 0x40"),
    ("violation", 1, "AXI rules broken 1 times, first: RLAST missing")])
def test_rtl_is_compared_with_the_machine(fault, code, told, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "Accelerator", Device)
    monkeypatch.setattr(Device, "fault", fault)
    assert run.main(["random-vit", "--tokens", "4", "--dim", "4"]) == code
    output = capsys.readouterr()
    assert told in output.out + output.err
    if fault in (None, "byte", "write"):
        assert "cycles: 1000, utilisation " in output.out


def test_what_is_computed_beside_ends_with_a_run_that_fails(monkeypatch, capsys):
    told = []

    def expects(*_, tell, **__):
        for layer in range(1000):
            told.append(layer)
            tell(layer / 1000, f"layer {layer}")
            time.sleep(0.01)

    def fails(*_):
        raise RunError("the machine model stopped")

    monkeypatch.setattr(run, "expected", expects)
    monkeypatch.setattr(run, "on_machine", fails)
    assert run.main(["random-vit", "--on", "machine", "--tokens", "4", "--dim", "4"]) == 1
    assert capsys.readouterr().err.endswith("error: the machine model stopped\n")
    assert 0 < len(told) < 1000


def test_layers_and_dump(tmp_path, capsys):
    path = tmp_path / "program"
    code, lines = called(capsys, "random-bert", "--on", "machine", "--layers", "1:2", "--dim", 4,
                         "--dump", path)
    assert code == 0 and any(line.startswith("  layer 1 bf16") for line in lines)
    assert not any("layer 0" in line or "embedding" in line for line in lines)
    assert path.read_text().splitlines()[-1].endswith("end")
    image = tmp_path / "image"
    called(capsys, "random-bert", "--on", "machine", "--dim", 4, "--program", image)
    assert ProgramImage.load(image).results[-1] == "layer 1 posit8"
    assert image_main(["run", str(image)]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        image_main(["run", str(image), "--fmt", "e4m3"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert "program must run on a build with POSIT8" in told and told.count("\n") == 1
    _, lines = called(capsys, "random-vit", "--on", "machine", "--tokens", 3, "--dump", "-")
    assert sum(" gemm " in line for line in lines) > 10


@pytest.mark.parametrize("arguments, message", [
    (["nothing"], "model must be one of .* not 'nothing'"),
    (["random-bert", "--fusion", "all"], "fusion must be one of none, .* not 'all'"),
    (["random-bert", "--layers", "0:3"], "layers must be A:B with 0 <= A < B <= 2, not 0:3"),
    (["random-bert", "--layers", "x:3"], "--layers must be A:B, :B, A: or A, .* not 'x:3'"),
    (["random-bert", "--tokens", "0"], "--tokens must be an integer from 1 up, not 0"),
    (["random-bert", "--tokens", "33"], "at most 32 positions, not 33"),
    (["random-bert", "--decode", "1"], "several steps take a causal model"),
    (["random-llama", "--tokens", "3", "--decode", "3"], r"decode must be from 0 to .* = 2, not 3"),
    (["random-llama", "--memory", "1000"], r"memory must be at least \d+ bytes .* not 1000"),
    (["random-llama", "--dim", "5"], "dim must be a power of two from 4 to 128, not 5"),
    (["random-llama", "--fmt", "int4"], "format must be one of posit8, "),
    (["random-llama", "--dump", "/nowhere/x"], "dump must be a writable file, not '/nowhere/x'"),
    (["random-llama", "--program", "/nowhere/x"],
     "program must be a writable file, not '/nowhere/x'"),
    (["random-bert", "--functions", "softmax"], "functions must be all in a build that runs"),
    (["random-llama", "--on", "paper"], "--on must be one of rtl, machine, not 'paper'"),
])
def test_errors_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main([*arguments, *(["--on", "machine"] if "--on" not in arguments else [])])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1
    assert re.search(message, told)


def test_a_missing_model_is_one_line(monkeypatch, capsys):
    def unavailable(*_, **__):
        raise ModelUnavailable("no network")

    monkeypatch.setattr(source, "load", unavailable)
    with pytest.raises(SystemExit) as caught:
        run.main(["minilm"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "python -m sim.run: error: no network\n"


@pytest.fixture
def adapter(tmp_path):
    """Trained a little on drawn digits, light and dark exchanged; with its trainer."""
    trainer = Trainer(load("digits-vit"), Training(LowRank(rank=2), rate=4e-3, steps=6, batch=10),
                      "classes", EightBit(AcceleratorConfig("posit8")), "pair")
    images = np.stack([patches(16 - image) for image in DRAWN.values()])
    for _ in range(6):
        trainer.step(Batch(images, np.arange(10)))
    save_adapters(tmp_path / "adapter", trainer.model, trainer.adapters())
    return tmp_path / "adapter", trainer


def test_adapters_run_with_the_bits_of_training(adapter, capsys):
    path, trainer = adapter
    arguments = ["digits-vit", "--on", "machine", "--adapter", str(path)]
    code, lines = called(capsys, *arguments)
    assert code == 0 and lines[-1].endswith("mismatches: 0")
    work = run.prepare(run._parser().parse_args(arguments))
    codes = expected(work.config, work.model, work.inputs, work.steps, layers=work.layers)
    weights = Weights(parameters(trainer.model), Bits(work.config), trainer.adapters().layers)
    weights.set("head.weight", trainer.updater.values["head.weight"])
    weights.set("head.bias", trainer.updater.values["head.bias"])
    logits = logits_of(trainer.model, weights, Bits(work.config),
                       Batch(work.inputs.values, np.zeros(1)))
    assert np.array_equal(codec.encode(BF16_ENCODING, logits), codes["head bf16"])
    plain = expected(work.config, load("digits-vit"), work.inputs, work.steps, layers=work.layers)
    assert not np.array_equal(plain["head bf16"], codes["head bf16"])


def test_adapters_of_another_model_are_one_line(adapter, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(["random-llama", "--on", "machine", "--adapter", str(adapter[0])])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1
    assert "has no place in adapters of random Llama" in error
