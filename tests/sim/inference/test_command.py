"""One's own inputs and results by the command line."""

import json
import re

import numpy as np
import pytest

from compiler.checkpoints.digits import DRAWN
from compiler.checkpoints.samples import bert, llama
from compiler.checkpoints.source import fp32_states
from compiler.examples import batches, from_ids
from compiler.lowering.fusion import FUSION_LEVELS, fusion_named
from compiler.lowering.lower import lower, make_steps
from hdl.spec.config import AcceleratorConfig
from sim import run
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.runner import on_machine


def called(capsys, *arguments):
    code = run.main([*map(str, arguments), "--on", "machine", "--dim", "4", "--quiet"])
    return code, capsys.readouterr().out.splitlines()


def test_images_and_what_they_show(tmp_path, capsys):
    for digit in (3, 7):
        np.save(tmp_path / f"{digit}.npy", DRAWN[digit])
    code, lines = called(capsys, "digits-vit", "--image", tmp_path / "3.npy", "--image",
                         tmp_path / "7.npy", "-o", tmp_path / "out")
    assert code == 0 and sum("mismatches: 0" in line for line in lines) == 2
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["label"] for one in told["results"]] == ["3", "7"]
    assert np.load(tmp_path / "out" / "logits.npy").argmax(axis=1).tolist() == [3, 7]
    assert told["config"]["dim"] == 4 and told["model"] == "digits-vit"


@pytest.mark.parametrize("model", ("random-bert", "random-llama"))
def test_ids_of_other_lengths_side_by_side(model, tmp_path, capsys):
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5, 6], [7, 8, -1, -1], [9, -1, -1, -1]]))
    code, lines = called(capsys, model, "--ids", tmp_path / "ids.npy", "--batch", 2, "-o",
                         tmp_path)
    assert code == 0 and sum("mismatches: 0" in line for line in lines) == 2
    near = [float(line.split("cosine to fp32 ")[1].split(",")[0]) for line in lines
            if "cosine" in line]
    assert min(near) > 0.95 and len(near) >= 6
    told = json.loads((tmp_path / "results.json").read_text())
    assert [one["positions"] for one in told["results"]] == [4, 2, 1]
    kind = "states" if model == "random-bert" else "logits"
    rows = np.load(tmp_path / f"{kind}.npy")
    assert len(rows) == (7 if kind == "states" else 3)
    called(capsys, model, "--ids", tmp_path / "ids.npy", "-o", tmp_path / "alone")
    assert np.allclose(rows, np.load(tmp_path / "alone" / f"{kind}.npy"), atol=0.5)


@pytest.mark.parametrize("left", (False, True))
@pytest.mark.parametrize("fusion", FUSION_LEVELS)
def test_positions_that_pad_are_not_read(fusion, left):
    """A causal model's last position, and the first of one that pools it, wherever padding is."""
    config, level = AcceleratorConfig("posit8", dim=4), fusion_named(fusion)
    rows = np.array([[3, 4, 5, 6, 7], [8, 9, 10, -1, -1], [11, -1, -1, -1, -1]])
    for model in (llama(), bert(pooling="first")):
        (_, given), = batches(from_ids(rows, model), 3)
        if left:
            given = type(given)("ids", given.values[:, ::-1].copy(), given.valid[:, ::-1].copy())
        program = lower(config, model, given, level=level)
        codes = expected(config, model, given, make_steps(model, given, None), level=level,
                         layers=range(2))
        ran = on_machine(program.image, config)
        comparison = compare(program, ran, codes)
        assert comparison.total > 500 and not comparison.mismatches
        if model.head is None:
            continue
        output = fp32_states(model, given, range(2))["output"].reshape(3, 5, -1)
        for sequence, valid in enumerate(given.valid):
            alone, = from_ids(given.values[sequence][valid], model)
            truth = fp32_states(model, next(batches([alone], 1))[1], range(2))["output"]
            assert np.allclose(output[sequence][valid], truth, atol=1e-4)
            assert np.isnan(output[sequence][~valid]).all()


def test_text_that_is_generated(tmp_path, capsys):
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5], [7, 8, -1]]))
    code, lines = called(capsys, "random-llama", "--fmt", "bf16", "--generate", 4, "--ids",
                         tmp_path / "ids.npy", "--chunk", 2, "--clock", 500, "-o", tmp_path)
    assert code == 0
    told = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [len(one["ids"]) for one in told] == [4, 4] and told[1]["prompt"] == [7, 8]
    assert told[0]["cycles_to_first_token"] > 100 and any("tokens/s" in line for line in lines)
    stop = told[0]["ids"][0]
    code, lines = called(capsys, "random-llama", "--fmt", "bf16", "--generate", 4, "--ids",
                         tmp_path / "ids.npy", "--stop", stop)
    assert any("then 1 new, the last a stop" in line for line in lines)


def test_texts_side_by_side(tmp_path, capsys):
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5], [7, 8, -1], [9, -1, -1]]))
    options = ["random-llama", "--fmt", "bf16", "--generate", 4, "--ids", tmp_path / "ids.npy",
               "--chunk", 2]
    code, _ = called(capsys, *options, "--batch", 2, "--clock", 500, "-o", tmp_path)
    told = json.loads((tmp_path / "results.json").read_text())["results"]
    assert code == 0 and [one["prompt"] for one in told] == [[3, 4, 5], [7, 8], [9]]
    called(capsys, *options, "-o", tmp_path / "alone")
    alone = json.loads((tmp_path / "alone" / "results.json").read_text())["results"]
    assert sum(a["ids"] == b["ids"] for a, b in zip(told, alone, strict=True)) >= 2


def test_an_image_for_a_board(tmp_path, capsys):
    code, lines = called(capsys, "random-llama", "--generate", 3, "--tokens", 5, "--image-only",
                         "-o", tmp_path)
    told = json.loads((tmp_path / "image.json").read_text())
    assert code == 0 and [one["positions"] for one in told["programs"]] == [5, 1]
    assert (tmp_path / "memory.bin").stat().st_size == told["bytes"]
    assert all(field["bits"] in (32, 64) for field in told["programs"][0]["fields"])
    code, lines = called(capsys, "random-bert", "--image-only", "-o", tmp_path / "whole")
    told = json.loads((tmp_path / "whole" / "image.json").read_text())
    assert [one["name"] for one in told["inputs"]] == ["ids"]
    assert not any("ran in" in line for line in lines)


@pytest.mark.parametrize("arguments, message", [
    (["random-llama", "--generate", "2", "--layers", "0:1"], "generate takes all layers"),
    (["random-llama", "--generate", "2", "--stop", "word"], "the number or the name of a token"),
    (["random-llama", "--generate", "2", "--memory", "1000"], "memory must be at least"),
    (["random-bert", "--text", "a"], "model must be one of|tokenizer"),
    (["random-bert", "--ids", "/nowhere.npy"], "must be a readable .npy file"),
    (["random-llama", "--tokens", "200000", "--memory", "1000000"], "memory must be at least"),
    (["random-llama", "--tokens", "200000"], "memory must be at least")])
def test_what_cannot_be_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main([*arguments, "--on", "machine"])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1
    assert re.search(message, told)
