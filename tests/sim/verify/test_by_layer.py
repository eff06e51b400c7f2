"""A model layer by layer against one program for all of it."""

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim import run as tool
from sim.verify.by_layer import by_layer
from sim.verify.runner import on_machine
from support.families import stored

CONFIG = AcceleratorConfig("posit8", dim=4)


@pytest.mark.parametrize("family, level", [
    *((family, Fusion.RESIDUAL) for family in SAMPLES), ("random-llama", Fusion.NONE)])
def test_every_result_is_that_of_one_program(family, level):
    model = SAMPLES[family](layers=3)
    given, opened = inputs_for(model, 7, 2), []
    if given.kind == "ids":
        given = Inputs("ids", given.values, np.arange(7) < np.array([[7], [4]]))

    def again():
        opened.append(model)
        return model

    program = lower(CONFIG, model, given, level=level)
    done = on_machine(program.image, CONFIG)
    found, compared = {}, 0
    for one in by_layer(CONFIG, again, given, level=level):
        assert one.comparison.mismatches == 0 < one.comparison.total
        compared += one.comparison.total
        assert one.program.memory.size < program.memory.size
        found |= {name: read_codes(one.run.memory, tensor)
                  for name, tensor in one.program.results.items()}
    assert len(opened) == 2 and compared > 300
    for name, tensor in program.results.items():
        assert np.array_equal(found[name], read_codes(done.memory, tensor)), name


def test_inputs_are_checked_before_the_work():
    model = SAMPLES["random-llama"](layers=2)
    given = Inputs("ids", np.array([[1, len(model.embedding.table)]]))
    with pytest.raises(ValueError, match="ids must be from 0 to"):
        next(by_layer(CONFIG, lambda: model, given))


@pytest.mark.parametrize("name", ["whisper", "bert-question-answering", "gemma2"])
def test_checkpoints_layer_by_layer(name, tmp_path):
    case = stored(name)
    folder = case.write(tmp_path / name)
    given = case.inputs(load(folder))
    *_, last = by_layer(CONFIG, lambda: load(folder), given)
    program = lower(CONFIG, load(folder), given)
    done = on_machine(program.image, CONFIG)
    assert np.array_equal(read_codes(last.run.memory, last.program.results["head bf16"]),
                          read_codes(done.memory, program.results["head bf16"]))


def test_layers_that_are_not_kept_are_read_again(tmp_path):
    model = load(stored("gemma2").write(tmp_path / "gemma2"))
    assert isinstance(model.blocks, LazyBlocks) and model.blocks[0] is model.blocks[0]
    unkept = model.blocks.unkept()
    assert unkept[1] is not unkept[1] and len(unkept) == len(model.blocks)
    assert np.array_equal(unkept[1].feed_forward.up.weight, model.blocks[1].feed_forward.up.weight)


def test_from_the_command_line(capsys, tmp_path):
    assert tool.main(["random-vit", "--on", "machine", "--by-layer", "--quiet", "-o",
                      str(tmp_path / "layers")]) == 0
    told = capsys.readouterr().out
    assert told.count("mismatches: 0") == 2 and "a program for each" in told
    assert tool.main(["random-vit", "--on", "machine", "--quiet", "-o", str(tmp_path / "one")]) == 0
    for name in ("logits.npy", "logits.codes.npy", "results.json"):
        assert (tmp_path / "layers" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.parametrize("arguments, message", [
    (["--decode", "1", "--tokens", "4"], "--by-layer takes no --decode"),
    (["--generate", "2"], "--by-layer takes no --generate"),
    (["--on", "rtl"], "--by-layer runs on the machine model, not on rtl")])
def test_what_goes_with_no_program_of_one_layer(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        tool.main(["random-llama", "--by-layer", "--on", "machine", *arguments])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.count("\n") == 1 and message in told
