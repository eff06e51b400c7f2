"""Programs of decoding against one program of all steps, whose every byte other tests compare."""

import numpy as np
import pytest

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, llama, vit
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.fusion import FUSION_LEVELS, fusion_named
from compiler.lowering.lower import lower
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

IDS = np.random.default_rng(3).integers(0, 40, 12)


class Host:
    def __init__(self, decoding):
        self.decoding, self.memory = decoding, decoding.image.memory.copy()
        self.machine = Machine(decoding.image.config)

    def run(self, length, past, ids):
        """The logits of the last of ``ids``, in a program of ``length``."""
        own = self.decoding.choose(length, past)
        own.template.write(self.memory, self.decoding.image.base, past=past, last=len(ids) - 1)
        row = np.zeros((length, 1), "<u4")
        row[:len(ids), 0] = ids
        own.ids.window(self.memory, self.decoding.image.base)[:] = row.view(np.uint8)
        ending = self.machine.run(self.memory, own.template.address, self.decoding.image.base)
        assert ending.error is None, ending
        return read_codes(self.memory, own.logits, self.decoding.image.base).copy()


def steps_at_once(config, model, steps, level):
    program = lower(config, model, Inputs("ids", IDS[None, :sum(steps)]), steps=steps, level=level)
    memory = program.memory.copy()
    assert Machine(config).run(memory, program.address).error is None
    return [read_codes(memory, program.results[f"step {index} head bf16"])
            for index in range(len(steps))]


@pytest.mark.parametrize("fmt", ("posit8", "fp8", "bf16"))
@pytest.mark.parametrize("fusion", FUSION_LEVELS)
def test_a_prompt_in_parts_and_positions_one_by_one(fmt, fusion):
    config, model, level = AcceleratorConfig(fmt, dim=4), llama(), fusion_named(fusion)
    host = Host(lower_decoding(config, model, 7, 5, chunk=4, level=level, base=64, seed=1))
    assert host.decoding.room == 12 and [own.length for own in host.decoding.passes] == [4, 1]
    found = [host.run(4, 0, IDS[:4]), host.run(4, 4, IDS[4:7])]
    found += [host.run(1, past, IDS[past:past + 1]) for past in range(7, 11)]
    wanted = steps_at_once(config, model, (4, 3, 1, 1, 1, 1), level)
    for got, want in zip(found, wanted, strict=True):
        assert np.array_equal(got, want)
    assert not np.array_equal(found[0], found[1])
    # A shorter prompt, in the same memory: nothing of the longer one shows.
    assert np.array_equal(host.run(4, 0, IDS[:4]), found[0])
    host.run(4, 4, IDS[4:6])
    assert np.array_equal(host.run(1, 6, IDS[6:7]), steps_at_once(
        config, model, (4, 2, 1), level)[2])


def test_rows_of_scores_beyond_a_bank():
    """Programs before and after the position from which a row of scores no longer fits."""
    config = AcceleratorConfig("posit8", dim=4, acc_depth=16)
    model = llama(words=20)
    decoding = lower_decoding(config, model, 62, 6, chunk=31)
    assert [(own.length, own.template.variables["past"]) for own in decoding.passes] == [
        (31, range(32)), (1, range(1, 64)), (1, range(64, 67))]
    host, ids = Host(decoding), np.random.default_rng(0).integers(0, 20, 67)
    for past in range(0, 62, 31):
        host.run(31, past, ids[past:past + 31])
    found = [host.run(1, past, ids[past:past + 1]) for past in range(62, 67)]
    program = lower(config, model, Inputs("ids", ids[None]), steps=[31, 31, 1, 1, 1, 1, 1])
    memory = program.memory.copy()
    assert Machine(config).run(memory, program.address).error is None
    for index, got in enumerate(found):
        want = read_codes(memory, program.results[f"step {2 + index} head bf16"])
        assert np.array_equal(got, want)


def test_one_token_at_a_time_and_one_token_alone():
    config, model = AcceleratorConfig("posit8", dim=4), llama()
    host = Host(lower_decoding(config, model, 3, 2, chunk=1))
    found = [host.run(1, past, IDS[past:past + 1]) for past in range(4)]
    wanted = steps_at_once(config, model, (1, 1, 1, 1), fusion_named("residual"))
    assert all(map(np.array_equal, found, wanted))
    alone = lower_decoding(config, model, 5, 1)
    assert [own.length for own in alone.passes] == [5]


def test_weights_lie_once():
    config, model = AcceleratorConfig("posit8", dim=4), llama()
    decoding = lower_decoding(config, model, 7, 5, chunk=4)
    plain = lower(config, model, Inputs("ids", IDS[None]))
    names = [tensor.name for tensor in decoding.image.tensors]
    for name in ("token table", "layer 1 up weight", "layer 0 keys"):
        assert names.count(name) == 1
        assert name in {tensor.name for tensor in plain.image.tensors}


@pytest.mark.parametrize("model, given, message", [
    (bert(), {}, "only a causal model with a head .* which random BERT is not"),
    (vit(), {}, "only a causal model with a head .* which random ViT is not"),
    (llama(), {"prompt": 0}, "prompt must be at least 1 token, not 0"),
    (llama(), {"new": 0}, "new must be at least 1 token, not 0"),
    (llama(), {"chunk": 0}, "chunk must be at least 1 token, not 0")])
def test_what_generates_nothing(model, given, message):
    with pytest.raises(ValueError, match=message):
        lower_decoding(AcceleratorConfig("posit8"), model, **{"prompt": 3, "new": 2} | given)
