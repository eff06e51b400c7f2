"""Every tool: wrong input is one line that names the value and what is allowed, exit code 2, and
nothing written."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gen.ottava import COMMANDS

NOWHERE = "/dev/null/file"
BUILD = [  # of every tool that takes all values of a configuration
    (["--dim", "3"], "dim must be a power of two from 4 to 128, not 3"),
    (["--dim", "3.5"], "dim must be a power of two from 4 to 128, not '3.5'"),
    (["--fmt", "posit9"], "format must be one of posit8, .* not 'posit9'"),
    (["--acc", "fp64"], "acc must be one of bf16, fp32, exact, fused, int32, not 'fp64'"),
    (["--bus-bytes", "3"], "bus_bytes must be a power of two from 4 to 64, not 3"),
    (["--bus", "16"], "unrecognized arguments: --bus 16"),
    (["--functions", "some"], "functions must be one of all, softmax, .*, not 'some'")]
MODEL = [  # of every tool that takes a model
    (["--layers", "x:3"], "--layers must be A:B, :B, A: or A, .* not 'x:3'"),
    (["--layers", ""], "--layers must be A:B, :B, A: or A, .* not ''"),
    (["--layers", "1:1"], "layers must be A:B with 0 <= A < B <= [0-9]+, not 1:1"),
    (["--tokens", "0"], "--tokens must be an integer from 1 up, not 0"),
    (["--tokens", "many"], "--tokens must be an integer from 1 up, not 'many'"),
    (["--decode", "-1"], "--decode must be an integer from 0 up, not -1"),
    (["--fusion", "all"], "--fusion must be one of none, scaling, .* not 'all'")]
SEED = [(["--seed", "-1"], "--seed must be an integer from 0 up, not -1")]
JOBS = [(["--jobs", "0"], "--jobs must be an integer from 1 up, not 0")]
OUTPUT = [(["-o", NOWHERE], "output must be .*, not ./dev/null")]
NAMES = [(["--fmt", "int4"], "--fmt must be one of .*posit8, .* not 'int4'")]
DIM = [(["--dim", "5"], "dim must be a power of two from 4 to 128, not 5")]
CENTRED = [(["--centring", "never"], "--centring must be one of once, twice, not 'never'")]
LOWERED = [*BUILD, *MODEL, *SEED, (["--memory", "9"], "memory must be at least [0-9]+ bytes"),
           (["--adapter", NOWHERE], NOWHERE), *CENTRED]
SAMPLE = ["random-bert"]

# What comes before the wrong arguments, and these with what is said of them.
WRONG: dict[str, tuple[list[str], list[tuple[list[str], str]]]] = {
    "top": ([], [*BUILD, *OUTPUT, (["--period-ns", "x"], "--period-ns must be a number .* 'x'"),
                 (["--sram", "big"], "--sram must be one of infer, uncollided, blackbox"),
                 (["--address-bits", "8"], "address_bits must be an integer from 32 to 64"),
                 (["--power-up", "x"], "power_up must be one of reset, unknown, not 'x'")]),
    "block": (["decoder"], [*BUILD, *OUTPUT, (["again"], "unrecognized arguments: again")]),
    "package": (["-o", "made"], [
        *BUILD, (["--name", "2x"], "module name must be a legal Verilog identifier, not '2x'"),
        (["-o", NOWHERE], "output must be in a folder that can be made")]),
    "diagram": ([], [*BUILD, *OUTPUT]),
    "scaling": ([], [*NAMES, *DIM]),
    "docs": ([], [(["all"], "unrecognized arguments: all")]),
    "compile": (SAMPLE, [*LOWERED, *OUTPUT,
                         (["--list", "all"], "--list must be one of trace, ops, commands, not")]),
    "run": (SAMPLE, [*LOWERED, (["--on", "paper"], "--on must be one of rtl, machine, not 'paper'"),
                     (["--dump", NOWHERE], "dump must be a writable file"),
                     (["--program", NOWHERE], "program must be a writable file"),
                     (["--batch", "0"], "--batch must be an integer from 1 up, not 0"),
                     (["--generate", "2"], "only a causal model .* random BERT is not"),
                     (["--temperature", "-1"], "--temperature must be a number from 0"),
                     (["--image-only"], "--image-only needs -o DIR"),
                     (["-o", NOWHERE], "output must be in a folder that can be made")]),
    "demo": (["--small"], [*BUILD, *SEED, (["--head", "9"], "head must be from 0 to 3, not 9"),
                           (["--tokens", "0"], "--tokens must be an integer from 1 up, not 0"),
                           (["--on", "x"], "--on must be one of rtl, machine, not 'x'")]),
    "train-demo": ([], [(["--steps", "0"], "--steps must be an integer from 1 up, not 0"),
                        (["--out", NOWHERE], "output must be in a folder that can be made, not")]),
    "evaluate": (["random-llama", "x.jsonl", "--metric", "perplexity"], [
        *JOBS, *CENTRED, (["--build", "posit9"], "format must be one of posit8, .* not 'posit9'"),
        (["--limit", "0"], "--limit must be an integer from 1 up, not 0"),
        (["--dim", "3"], "dim must be a power of two from 4 to 128, not 3"),
        (["-o", NOWHERE], "output must be a writable file"),
        (["--json", NOWHERE], "json must be a writable file"), ([], "data must be a readable")]),
    "quantise": (["random-bert", "-o", "scales"], [
        *SEED, (["--percentile", "101"], "--percentile must be a number from 50 to 100"),
        (["--weights", "row"], "--weights must be one of output, tensor, not 'row'"),
        (["--text", "x"], "model must be one of"), (["-o", NOWHERE], "output must be a writable")]),
    "accuracy": ([], [*JOBS, (["frob"], "table must be one of quick, .* not 'frob'"),
                      (["--figures", NOWHERE, "--report"], "figures must be a file of them"),
                      (["--figures", NOWHERE, "--write"], "figures must be a writable file")]),
    "image": ([], [(["run", NOWHERE], NOWHERE), (["run", "x", "--on", "moon"], "--on must be one"),
                   (["frob", "x"], "must be one of show, run, c, not 'frob'")]),
    "assembly": ([], [(["dump", NOWHERE], NOWHERE), (["assemble", NOWHERE, "-o", "x"], NOWHERE),
                      (["dump", "x", "--address", "y"], "--address must be an integer")]),
    "cycles": (["bert-base"], [*BUILD, *MODEL, *CENTRED,
                               (["--svg", NOWHERE], "svg must be a writable file"),
                               (["--latency", "0"], "--latency must be an integer from 1 up")]),
    "throughput": ([], [*BUILD, (["--sizes", "8", "0"], "--sizes must be an integer from 1 up")]),
    "bench": ([], [*SEED, *JOBS, *NAMES, (["--test", "x"], "--test must be one of decoder, "),
                   (["--sim", "x"], "--sim must be one of icarus, verilator, not 'x'")]),
    "matrix": (["--small"], [*SEED, *JOBS, *NAMES, *DIM, *OUTPUT]),
    "shapes": ([], [*SEED, *JOBS, *NAMES, *DIM,
                    (["--count", "0"], "--count must be an integer from 1 up, not 0")]),
    "faults": ([], [*SEED, *DIM, (["--count", "0"], "--count must be an integer from 1 up, not 0"),
                    (["--sabotage", "x"], "--sabotage must be one of")]),
    "coverage": ([], [*SEED, *JOBS, *NAMES, *OUTPUT,
                      (["--least", "101"], "--least must be a number from 0 to 100, not '101'")]),
    "area": ([], [*NAMES, *DIM, (["--library", "x"], "library must be one of .* not 'x'"),
                  (["--block", "x"], "--block must be one of decoder")]),
    "summary": ([], [*BUILD, *OUTPUT]),
    "units": ([], [*DIM, (["--fmt", "int4"], "format must be one of posit8, .* not 'int4'"),
                    (["--library", "x"], "library must be one of .* not 'x'")]),
    "power": (["--small"], [
        *NAMES, *DIM, (["--mhz", "x"], "--mhz must be a number from 0 up, not 'x'"),
        (["--head", "9"], "head must be from 0 to 3, not 9"),
        (["--tokens", "0"], "--tokens must be an integer from 1 up, not 0"),
        (["--script", "x"], "script must be one of quick, best, not 'x'"),
        (["--library", "x"], "library must be one of .* not 'x'"),
        (["--library", "ottava"], "library must say what energy its cells take, .* not ottava"),
        (["-o", NOWHERE], "output must be in a folder that can be made")]),
    "sweep": ([], [
        *JOBS, *DIM, (["--fmt", "int4"], "--fmt must be one of posit8, .* not 'int4'"),
        (["--target", "x"], "--target must be one of asic, fpga, not 'x'"),
        (["--period-ns", "0"], "--period-ns must be a number from 1 up, not '0'"),
        (["--acc", "x"], "--acc must be one of bf16, fp32, exact, fused, int32, not 'x'"),
        (["--library", "x"], "library must be one of .* not 'x'"),
        (["-o", "x.json"], "output must not end in .json, .* not 'x.json'"),
        (["-o", NOWHERE], "output must be in a folder that can be made")]),
    "paper": (["--small"], [
        (["--dims", "9"], "dim must be a power of two from 4 to 128, not 9"),
        (["--dims", "x"], "--dims must be an integer from 4 up, not 'x'"),
        (["--wholes", "x"], "--wholes must be one of relaxed, nominal, tight, not 'x'"),
        (["--head", "9"], "head must be from 0 to 3, not 9"),
        (["--library", "ottava"], "library must say what energy its cells take, .* not ottava"),
        (["--svg", NOWHERE], "output must be in a folder that can be made"),
        (["-o", NOWHERE], "output must be in a folder that can be made")]),
    "clock": ([], [*BUILD, (["--library", "x"], "library must be one of .* not 'x'")]),
    "front-ends": ([], NAMES),
    "fpga": ([], [*BUILD, *SEED]),
    "crossings": ([], [*BUILD, (["--reset", "x"], "--reset must be one of sync, async, not")]),
    "lint": ([], [*NAMES, *DIM]),
}
APART = {"study", "train", "isomorphism"}  # held by tests of their own


def main_of(name):
    module = COMMANDS[name].module
    package = importlib.util.find_spec(module).submodule_search_locations is not None
    return importlib.import_module(f"{module}.__main__" if package else module).main


def test_every_command_is_here():
    assert set(WRONG) | APART == set(COMMANDS) - {"ottava"}


def test_to_import_them_leaves_nothing(tmp_path):
    """In a process of their own: in this one others may have been before."""
    script = ("import runpy; from gen.ottava import COMMANDS\n"
              "for command in COMMANDS.values(): runpy.run_module(command.module)")
    own = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[1],
                   env=own | {"OTTAVA_BUILD": str(tmp_path / "build")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_unknown_option_is_one_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main_of(name)([*WRONG.get(name, ([], ()))[0], "--nonsense"])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "error: " in said.err


@pytest.mark.parametrize("name, arguments, message", [
    (name, [*before, *wrong], message)
    for name, (before, cases) in WRONG.items() for wrong, message in cases],
    ids=lambda item: " ".join(item) if isinstance(item, list) else item)
def test_wrong_input_is_one_line_and_leaves_nothing(name, arguments, message, tmp_path,
                                                    monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        main_of(name)(arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.err.count("\n") == 1 and said.out == ""
    assert re.search(message, said.err), said.err
    assert list(tmp_path.iterdir()) == []
