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
from compiler.program.builder import read_codes
from gen.package.host.image import Image
from hdl.spec.config import AcceleratorConfig
from sim import run
from sim.inference import compile
from sim.model.machine import Machine
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.runner import on_machine
from support.families import stored


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


def test_programs_of_several_lengths_on_weights_that_are_placed_once(tmp_path, capsys):
    """A memory into which a host puts the weights once, then one program after the other."""
    ids = [[3, 4, 5], [7, 8, 6, 2, 9], [4, 3, 2]]
    np.save(tmp_path / "ids.npy", np.array([[*row, *[-1] * (5 - len(row))] for row in ids]))
    given, out = ["random-bert", "--ids", tmp_path / "ids.npy"], tmp_path / "out"
    assert called(capsys, *given, "--image-only", "--weights-separate", "-o", out)[0] == 0
    shapes = ("1x3", "1x5")
    assert {path.name for path in out.iterdir()} == {"weights.bin", *(
        name for shape in shapes for name in (f"program-{shape}.bin", f"image-{shape}.json"))}
    weights = (out / "weights.bin").read_bytes()
    written = (out / "weights.bin").stat().st_mtime_ns
    np.save(tmp_path / "more.npy", np.array([[1, 2]]))  # another command adds to the folder
    assert called(capsys, given[0], "--ids", tmp_path / "more.npy", "--image-only",
                  "--weights-separate", "-o", out)[0] == 0
    assert (out / "weights.bin").stat().st_mtime_ns == written
    memory, compared = np.zeros(1 << 20, np.uint8), 0
    memory[:len(weights)] = np.frombuffer(weights, np.uint8)
    for row in (*ids, [1, 2]):
        image = Image.apart(out / f"image-1x{len(row)}.json")
        assert image.base == 0 and image.kept == len(weights)
        about = json.loads((out / f"image-1x{len(row)}.json").read_text())
        memory[image.kept:][:len(image.memory)] = np.frombuffer(image.memory, np.uint8)
        place = image.tensors["ids"]["address"]
        memory[place:place + 4 * len(row)] = np.array(row, "<u4").view(np.uint8)
        config = AcceleratorConfig(**about["config"])
        assert Machine(config).run(memory, image.program, 0).error is None
        wanted = compile("random-bert", config).program(row)
        ran = wanted.memory.copy()
        assert Machine(config).run(ran, wanted.address, wanted.base).error is None
        for name in image.results:
            tensor = image.tensors[name]
            codes = read_codes(ran, wanted.results[name], wanted.base)
            found = memory[tensor["address"]:][:codes.nbytes]
            assert np.array_equal(found, codes.reshape(-1).view(np.uint8))
            compared += codes.nbytes
    assert memory[:len(weights)].tobytes() == weights and compared > 1000
    print(f"{compared} bytes compared")


@pytest.mark.parametrize("arguments, message", [
    (["--weights-separate"], "--weights-separate needs --image-only, and takes no --generate"),
    (["--weights-separate", "--image-only", "--generate", "2", "-o", "out"], "takes no --generate"),
    (["--image-only", "-o", "out"], "one program, and these inputs take 2: --weights-separate"),
    (["--image-only", "-o", "out", "--weights-separate", "--batch", "2"], "the same padding"),
    (["--image-only", "-o", "full", "--weights-separate"], "weights of this model and build")])
def test_what_no_image_is_written_of(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/weights.bin").write_bytes(b"others")
    np.save("ids.npy", np.array([[3, 4, 5, -1], [3, 4, 5, 6], [3, 4, -1, -1], [3, 4, 5, 6]]))
    if "full" not in arguments and "2" not in arguments:
        np.save("ids.npy", np.array([[3, 4, 5, -1], [3, 4, 5, 6]]))
    with pytest.raises(SystemExit) as caught:
        run.main(["random-bert", "--on", "machine", "--ids", "ids.npy", *arguments])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1 and re.search(message, told)
    assert (tmp_path / "full/weights.bin").read_bytes() == b"others"
    assert not list(tmp_path.rglob("program*")) and not list(tmp_path.rglob("image*"))


class Board:
    """What a host does that knows nothing but the files of a folder."""

    def __init__(self, folder):
        self.about = json.loads((folder / "image.json").read_text())
        self.base = self.about["memory"][0]["address"]
        self.memory = np.fromfile(folder / "memory.bin", np.uint8)
        self.machine = Machine(AcceleratorConfig(**self.about["config"]))

    def put(self, tensor, values, kind="<u4"):
        content = np.asarray(values, kind).tobytes()
        assert len(content) == tensor["rows"] * tensor["stride"]
        self.memory[tensor["address"] - self.base:][:len(content)] = np.frombuffer(
            content, np.uint8)

    def run(self, address):
        assert self.machine.run(self.memory, address, self.base).error is None

    def feed(self, length, ids, sequences=1, **values):
        """The likeliest token after each sequence."""
        program, = (one for one in self.about["programs"] if one["positions"] == length
                    and one["sequences"] == sequences)
        for field in program["fields"]:
            value = field["base"] + sum(add * values.get(name, 0)
                                        for name, add in field["adds"].items())
            self.memory[field["address"] - self.base:][:field["bits"] // 8] = np.frombuffer(
                value.to_bytes(field["bits"] // 8, "little"), np.uint8)
        self.put(program["ids"], ids)
        self.run(program["start"])
        logits, found = program["logits"], []
        for row in range(logits["rows"]):
            start = logits["address"] - self.base + row * logits["stride"]
            codes = self.memory[start:start + 2 * logits["columns"]].view("<u2")
            found.append(int((codes.astype(np.uint32) << 16).view(np.float32).argmax()))
        return found


def test_a_board_runs_the_encoder_first(tmp_path, capsys):
    path = stored("t5").write(tmp_path / "model")
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5, 6]]))
    options = [path, "--fmt", "bf16", "--ids", tmp_path / "ids.npy", "--generate", 3]
    assert called(capsys, *options, "-o", tmp_path)[0] == 0
    wanted = json.loads((tmp_path / "results.json").read_text())["results"][0]
    assert called(capsys, *options, "--image-only", "-o", tmp_path)[0] == 0
    board = Board(tmp_path)
    encoder = board.about["encoder"]
    assert encoder["positions"] == 4 and encoder["inputs"] in board.about["inputs"]
    board.put(encoder["inputs"], [3, 4, 5, 6])
    board.run(encoder["start"])
    found = board.feed(1, wanted["prompt"], past=0)
    while len(found) < len(wanted["ids"]):
        found += board.feed(1, found[-1:], past=len(found))
    assert found == wanted["ids"] and len(found) == 3


def test_a_board_takes_texts_side_by_side(tmp_path, capsys):
    prompts = [[3, 4, 5], [7, 8]]
    np.save(tmp_path / "ids.npy", np.array([prompts[0], [*prompts[1], -1]]))
    options = ["random-llama", "--fmt", "bf16", "--ids", tmp_path / "ids.npy", "--generate", 3,
               "--batch", 2]
    assert called(capsys, *options, "-o", tmp_path)[0] == 0
    wanted = [one["ids"] for one in json.loads(
        (tmp_path / "results.json").read_text())["results"]]
    assert called(capsys, *options, "--image-only", "-o", tmp_path)[0] == 0
    board = Board(tmp_path)
    found = [[*board.feed(3, [*ids, 0][:3], past=0, last=len(ids) - 1, sequence=index,
                          pad=3 - len(ids))] for index, ids in enumerate(prompts)]
    masks = board.about["masks"]
    hidden = np.arange(masks["columns"]) < np.array([[0], [1]])
    board.put(masks, np.where(hidden, 0xff7f, 0), "<u2")
    for past in (3, 4):
        for own, token in zip(found, board.feed(1, [own[-1] for own in found], 2, past=past),
                              strict=True):
            own.append(token)
    assert found == wanted


def test_inputs_that_a_board_writes(tmp_path, capsys):
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5, 6]]))
    for name, arguments, inputs in (
            ("t5", ["--ids", tmp_path / "ids.npy"], ["ids", "ids"]),
            ("random-vit", [], ["patches"]), ("random-bert", [], ["ids"]),
            ("random-bert", ["--layers", "1:2"], ["embedding", "embedding"])):
        model = name if name.startswith("random") else stored(name).write(tmp_path / name)
        assert called(capsys, model, *arguments, "--image-only", "-o", tmp_path / "out")[0] == 0
        told = json.loads((tmp_path / "out" / "image.json").read_text())
        assert [one["name"] for one in told["inputs"]] == inputs


def test_what_fills_a_group_is_no_ones(tmp_path, capsys):
    """A text drawn in a group of its own and in one that is filled up."""
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5], [7, 8, 6], [3, 4, 5]]))
    called(capsys, "random-llama", "--fmt", "bf16", "--generate", 5, "--ids",
           tmp_path / "ids.npy", "--batch", 2, "--temperature", 5, "--stop", "", "-o", tmp_path)
    told = json.loads((tmp_path / "results.json").read_text())["results"]
    assert len(told) == 3 and told[0]["ids"] == told[2]["ids"] != told[1]["ids"]


def test_layers_that_look_across_from_the_second_on(tmp_path, capsys):
    path = stored("t5").write(tmp_path / "model")
    np.save(tmp_path / "ids.npy", np.array([[3, 4, 5, 6]]))
    code, lines = called(capsys, path, "--layers", "1:2", "--ids", tmp_path / "ids.npy")
    assert code == 0 and any("mismatches: 0" in line for line in lines)
    assert any(line.split()[0:2] == ["layer", "1"] for line in lines)


def test_a_reader_that_leaves_and_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    def gone(*arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("sim.inference.command.write_board", full)
    with pytest.raises(SystemExit) as caught:
        called(capsys, "random-bert", "--image-only", "-o", tmp_path)
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1
    assert re.search("output must be a folder that can be written, not .*: No space left", told)
    monkeypatch.setattr(run, "report", gone)
    with pytest.raises(BrokenPipeError):  # for gen.cli.piped: no error of a folder
        called(capsys, "random-bert")


@pytest.mark.parametrize("arguments, message", [
    (["random-llama", "--generate", "2", "--layers", "0:1"], "generate takes all layers"),
    (["random-llama", "--generate", "2", "--stop", "word"], "the number or the name of a token"),
    (["random-llama", "--generate", "2", "--memory", "1000"], "memory must be at least"),
    (["random-bert", "--text", "a"], "model must be one of|tokenizer"),
    (["random-bert", "--ids", "/nowhere.npy"], "must be a readable .npy file"),
    (["random-llama", "--tokens", "200000", "--memory", "1000000"], "memory must be at least"),
    (["random-llama", "--tokens", "200000"], "this machine has .* bytes of memory, of which"),
    (["random-llama", "--generate", "100000000000"], "of which this program needs at least")])
def test_what_cannot_be_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run.main([*arguments, "--on", "machine"])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1
    assert re.search(message, told)
