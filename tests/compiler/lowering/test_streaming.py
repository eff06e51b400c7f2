import gc
import weakref

import numpy as np
import pytest

from compiler.checkpoints import checkpoint, load
from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, llama
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.lower import lower, prepared
from compiler.lowering.programs import Programs
from compiler.lowering.streaming import Streamed
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from support.checkpoints import Bert, Llama

CONFIG = AcceleratorConfig("posit8", dim=4)
IDS = Inputs("ids", np.array([[3, 7, 1, 20]]))


def results(program):
    memory = program.memory.copy()
    assert Machine(CONFIG).run(memory, program.address, program.base).error is None
    return {name: read_codes(memory, tensor, program.base)
            for name, tensor in program.results.items()}


@pytest.mark.parametrize("kind", (Bert, Llama))
def test_layers_that_are_read_again_and_again(kind, tmp_path, monkeypatch):
    path = kind(tmp_path / "model").write()
    wanted = results(lower(CONFIG, load(path), IDS))
    monkeypatch.setattr(checkpoint, "_KEPT", 0)
    model, alive, most = load(path), [], []
    make = model.blocks._make

    def counted(index):
        block = make(index)
        alive.append(weakref.ref(block.feed_forward.up.weight))
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        return block

    model.blocks._make = counted
    programs = Programs(CONFIG, model)
    for _ in range(2):
        found = results(programs.lower(IDS))
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    print(f"{len(most)} layers read, {max(most)} at once")
    assert max(most) <= 2 < len(most)


def test_layers_are_kept_while_there_is_room(monkeypatch):
    one = bert(layers=1).blocks[0]
    size = sum(array.nbytes for array in checkpoint._arrays(one))
    made = []
    monkeypatch.setattr(checkpoint, "_KEPT", 2 * size)
    blocks = LazyBlocks(4, lambda index: made.append(index) or one)
    for _ in range(2):
        for index in range(4):
            assert blocks[index] is one
    assert made == [0, 1, 2, 3, 2, 3] and blocks[-1] is one and len(blocks[1:3]) == 2


def test_stand_ins_have_shapes_alone():
    model = llama()
    streamed = Streamed(model.blocks, prepared)
    hollow, whole = streamed[1], prepared(model.blocks[1])
    own = hollow.feed_forward.up.weight
    assert own.shape == whole.feed_forward.up.weight.shape and np.isnan(own).all()
    assert own.strides == (0, 0)
    for part in ("query", "key", "value", "output"):
        stand_in = getattr(hollow.attention, part).weight
        assert np.array_equal(streamed.contents(stand_in), getattr(whole.attention, part).weight)
    assert np.array_equal(hollow.attention_norm.gain, whole.attention_norm.gain)
    assert streamed.contents(whole.feed_forward.up.weight) is whole.feed_forward.up.weight
    assert streamed[1] is hollow and len(streamed[0:2]) == 2


def test_layers_that_are_the_same_are_placed_once():
    once, twice = bert(layers=1), bert(layers=1)
    twice = type(twice)(twice.name, twice.embedding, twice.blocks * 2)
    sizes = [Programs(CONFIG, model) for model in (once, twice, bert(layers=2))]
    for programs in sizes:
        programs.lower(IDS)
    assert sizes[0].weights == sizes[1].weights < sizes[2].weights
    lazy = type(twice)(twice.name, twice.embedding,
                       LazyBlocks(2, lambda index: once.blocks[0], (0, 0)))
    programs = Programs(CONFIG, lazy)
    assert all(np.array_equal(a, b) for a, b in zip(
        results(programs.lower(IDS)).values(), results(lower(CONFIG, twice, IDS)).values(),
        strict=True))


def test_decoding_reads_layers_one_by_one_too(tmp_path, monkeypatch):
    path = Llama(tmp_path / "model").write()
    whole = lower_decoding(CONFIG, load(path), 3, 2, chunk=2)
    monkeypatch.setattr(checkpoint, "_KEPT", 0)
    assert np.array_equal(lower_decoding(CONFIG, load(path), 3, 2, chunk=2).image.memory,
                          whole.image.memory)
