"""Real checkpoints through the command line, on the machine model and on RTL."""

import numpy as np
import pytest

from compiler.checkpoints import digits
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.source import open_model
from compiler.lowering.lower import lower
from compiler.program.builder import read
from hdl.spec.config import AcceleratorConfig
from sim import run
from sim.model.machine import Machine
from support.require import require

FORMATS = ("posit8", "posit8es2", "fp8", "bf16")


def checked(capsys, *arguments):
    """The least bytes of results that a run without a difference compared, and cosines to fp32."""
    require(open_model, arguments[0])
    code = run.main([*map(str, arguments)])
    lines = capsys.readouterr().out.strip().splitlines()
    assert code == 0 and lines[-1].endswith("mismatches: 0")
    near = [float(line.split("cosine to fp32 ")[1].split(",")[0])
            for line in lines if "cosine" in line]
    return int(lines[-1].split()[2].rstrip(",")), near


@pytest.mark.parametrize("fmt", FORMATS)
def test_digits_vit_on_the_machine(fmt, capsys):
    compared, near = checked(capsys, "digits-vit", "--on", "machine", "--fmt", fmt)
    assert compared > 4000 and min(near) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
def test_digits_that_are_read(fmt):
    pictures, wanted = (part[-digits.HELD_OUT:] for part in require(digits.images))
    config = AcceleratorConfig(fmt)
    program = lower(config, digits.load_digits(), Inputs("patches", digits.patches(pictures)))
    memory = program.memory.copy()
    assert Machine(config).run(memory, program.address).error is None
    found = read(memory, program.results["head bf16"]).argmax(axis=1)
    print(f"{fmt}: {np.mean(found == wanted):.1%} of {len(wanted)} digits")
    assert np.mean(found == wanted) > 0.96


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("model, options", [
    ("bert-tiny", ("--tokens", 32)), ("minilm", ("--tokens", 128)),
    ("smollm2", ("--tokens", 16, "--decode", 1))], ids=lambda value: str(value).split("-")[0])
def test_whole_models_on_the_machine(model, options, fmt, capsys):
    compared, near = checked(capsys, model, "--on", "machine", "--fmt", fmt, *options)
    print(f"{model} {fmt}: {compared} bytes, cosine to fp32 from {min(near)}")
    # The first position of a Llama holds items of thousands, which E4M3 clips: not the least one.
    assert compared > 20_000 and np.median(near) > (0.97 if fmt != "bf16" else 0.99)


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("model, options", [
    ("digits-vit", ()), ("bert-tiny", ("--tokens", 32)),
    ("minilm", ("--tokens", 32, "--layers", "0:1")),
    ("smollm2", ("--tokens", 12, "--decode", 1, "--layers", "0:1"))],
    ids=lambda value: str(value).split("-")[0])
def test_models_on_rtl(model, options, fmt, capsys):
    compared, near = checked(capsys, model, "--on", "rtl", "--fmt", fmt, *options)
    print(f"{model} {fmt}: {compared} bytes")
    assert compared > 4_000 and min(near) > 0.9


@pytest.mark.slow
def test_minilm_whole_on_rtl(capsys):
    compared, _ = checked(capsys, "minilm", "--on", "rtl", "--tokens", 32)
    assert compared > 200_000
