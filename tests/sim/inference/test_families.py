"""Every family of decoders by programs that are fitted to a position: the logits of one program of
all steps, whose every byte other tests compare."""

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.decoding import check_decoding, lower_decoding
from compiler.lowering.programs import Programs
from compiler.program.builder import read
from hdl.spec.config import AcceleratorConfig
from sim.inference import compile
from sim.inference.generate import DecodingHost, fp32_greedy
from sim.model.machine import Machine
from sim.verify.starts import machine_start
from support.families import NAMES, stored

CONFIG = AcceleratorConfig("posit8", dim=4)


# Of each thing that a position changes one: tables of positions, rotations of every kind, windows,
# caps, biases of distance, norms of heads.
FEW = ("bloom", "gemma2", "gpt2", "gptj", "llama-yarn", "mistral", "qwen3")


def logits_are_those_of_all_steps(name, folder):
    """How many were compared; 0 of a model that generates no text."""
    model = load(stored(name).write(folder / name))
    try:
        check_decoding(model)
    except ValueError:
        return 0
    if model.encoder is not None:
        return 0
    ids = np.random.default_rng(1).integers(0, len(model.embedding.table), 8)
    program = Programs(CONFIG, model).lower(Inputs("ids", ids[None]), (3, 3, 1, 1))
    memory = program.memory.copy()
    assert Machine(CONFIG).run(memory, program.address).error is None
    host, count = DecodingHost(lower_decoding(CONFIG, model, 6, 3, chunk=3),
                               machine_start(CONFIG)), 0
    for index, part in enumerate((ids[:3], ids[3:6], ids[6:7], ids[7:])):
        found = host.feed(part.tolist(), len(part))
        wanted = read(memory, program.results[f"step {index} head bf16"])[0]
        assert np.array_equal(found, wanted, equal_nan=True), name
        count += found.size
    return count


@pytest.mark.parametrize("name", FEW)
def test_logits_of_a_decoder(name, tmp_path):
    assert logits_are_those_of_all_steps(name, tmp_path) >= 100


@pytest.mark.slow
def test_logits_of_every_decoder(tmp_path):
    found = [logits_are_those_of_all_steps(name, tmp_path) for name in NAMES]
    print(f"{np.count_nonzero(found)} families, {sum(found)} logits")
    assert np.count_nonzero(found) >= 20


def test_a_model_with_an_encoder_from_python(tmp_path):
    model = load(stored("t5").write(tmp_path / "model"))
    source = np.random.default_rng(2).integers(2, 20, 5)
    made = compile(model, AcceleratorConfig("bf16", dim=4)).generate(source, 4)
    assert made.prompt.tolist() == list(model.start) and len(made.ids) == 4
    assert list(made.ids) == fp32_greedy(model, np.array(model.start), 4, source=source)
