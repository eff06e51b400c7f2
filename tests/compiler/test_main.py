"""``python -m compiler``: what it tells, lists and writes."""

import re

import numpy as np
import pytest

from compiler.__main__ import main
from compiler.checkpoints.samples import SAMPLES
from compiler.checkpoints.scales import placed_linears
from compiler.lowering.fusion import FUSION_LEVELS
from compiler.program.assembly.listing import assemble, program_bytes
from compiler.program.image import ProgramImage
from sim import run
from support.peft import arrays


def told(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("model", SAMPLES)
def test_a_summary_adds_up(model, capsys):
    lines = told(capsys, model, "--dim", 4, "--tokens", 5)
    assert lines[0].startswith("config: fmt posit8, acc bf16, ")
    traced, fused = map(int, re.search(r"ops: (\d+) traced, (\d+) fused", lines[2]).groups())
    assert traced > fused > 10
    total, *parts = map(int, re.findall(r"\d+", lines[3]))
    assert "commands: " in lines[3] and total == sum(parts)
    total, *parts = map(int, re.findall(r"\d+", lines[4]))
    assert "bytes: " in lines[4] and 0.9 * total < sum(parts) <= total


@pytest.mark.parametrize("scales", ["row", "static"])
def test_memory_against_fp32(scales, capsys):
    """Counted from the description: weights a byte each, an item of 2 bytes for each of their rows,
    and in fp32 every parameter 4 bytes."""
    lines = told(capsys, "random-bert", "--dim", 4, "--tokens", 5, "--fmt", "int8", "--scales",
                 scales, "--against-fp32")
    told_of = {name: int(size) for size, name in re.findall(r"(\d+) ([a-z ]+)[,:]", lines[5])}
    model = SAMPLES["random-bert"](0)
    placed = dict(placed_linears(model, dict(enumerate(model.blocks))))
    tables = [model.embedding.table] + [linear.weight for linear in placed.values()]
    assert told_of["weights"] == sum(table.size for table in tables)
    assert told_of["scales"] == 2 * sum(len(table) for table in tables)
    parameters = sum(array.size for array in arrays(model))
    whole = int(re.search(r"of (\d+) in fp32", lines[5])[1])
    assert 4 * parameters < whole < 4 * parameters + 2 * (told_of["results"]
                                                          + told_of["temporary values"]) * 2


@pytest.mark.parametrize("fusion", FUSION_LEVELS)
def test_lists(fusion, capsys):
    options = ["random-bert", "--dim", 4, "--tokens", 3, "--fusion", fusion, "--list"]
    traced, fused = told(capsys, *options, "trace"), told(capsys, *options, "ops")
    assert len(traced) > len(fused) and not any("stored" in line for line in traced)
    assert any(re.match(r" +\d+ gemm +layer 0 hidden\[3×20 stored\] ← .*gelu$", line)
               for line in fused) == (fusion not in ("none", "scaling"))
    assert traced == told(capsys, *options[:4], "3", "--list", "trace")  # of no level
    assert told(capsys, *options, "commands")[-1].endswith(" end")


def test_the_image_is_that_of_a_run_and_the_list_its_program(tmp_path, capsys):
    options = ["random-llama", "--dim", "4", "--tokens", "6", "--decode", "2", "--layers", "1:"]
    assert told(capsys, *options, "-o", tmp_path / "image")[-1] == f"wrote {tmp_path / 'image'}"
    image = ProgramImage.load(tmp_path / "image")
    listed = told(capsys, *options, "--list", "commands")
    assert assemble("\n".join(listed)) == program_bytes(image.memory, image.address, image.base)
    assert run.main([*options, "--on", "machine", "--program", str(tmp_path / "other")]) == 0
    assert np.array_equal(ProgramImage.load(tmp_path / "other").memory, image.memory)
    assert any(name.startswith("step 1 layer 1") for name in image.results)


@pytest.mark.parametrize("layers, named", [
    ("0", {"layer 0"}), (":1", {"layer 0"}), ("1:", {"layer 1"}), ("0:2", {"layer 0", "layer 1"}),
    (":", {"layer 0", "layer 1"})])
def test_layers(layers, named, tmp_path, capsys):
    told(capsys, "random-bert", "--dim", 4, "--layers", layers, "-o", tmp_path / "image")
    results = ProgramImage.load(tmp_path / "image").results
    assert {name[:7] for name in results if name.startswith("layer")} == named
