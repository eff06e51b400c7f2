"""Real checkpoints through the command line, on the machine model and on RTL."""

import pytest

from sim import run

FORMATS = ("posit8", "posit8es2", "fp8", "bf16")


def checked(capsys, *arguments):
    """The least bytes of results that a run without a difference compared, and cosines to fp32."""
    code = run.main([*map(str, arguments)])
    lines = capsys.readouterr().out.strip().splitlines()
    assert code == 0 and lines[-1].endswith("mismatches: 0")
    near = [float(line.split("cosine to fp32 ")[1].split(",")[0])
            for line in lines if "cosine" in line]
    return int(lines[-1].split()[2].rstrip(",")), near


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("model, options", [
    ("bert-tiny", ("--tokens", 32)), ("minilm", ("--tokens", 128)),
    ("smollm2", ("--tokens", 16, "--decode", 1))], ids=lambda value: str(value).split("-")[0])
def test_whole_models_on_the_machine(model, options, fmt, capsys):
    compared, near = checked(capsys, model, "--on", "machine", "--fmt", fmt, *options)
    print(f"{model} {fmt}: {compared} bytes, cosine to fp32 from {min(near)}")
    assert compared > 30_000 and min(near) > (0.85 if fmt != "bf16" else 0.99)


@pytest.mark.slow
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("model, options", [
    ("bert-tiny", ("--tokens", 32)), ("minilm", ("--tokens", 32, "--layers", "0:1")),
    ("smollm2", ("--tokens", 12, "--decode", 1, "--layers", "0:1"))],
    ids=lambda value: str(value).split("-")[0])
def test_models_on_rtl(model, options, fmt, capsys):
    compared, near = checked(capsys, model, "--on", "rtl", "--fmt", fmt, *options)
    print(f"{model} {fmt}: {compared} bytes")
    assert compared > 15_000 and min(near) > 0.9


@pytest.mark.slow
def test_minilm_whole_on_rtl(capsys):
    compared, _ = checked(capsys, "minilm", "--on", "rtl", "--tokens", 32)
    assert compared > 200_000
