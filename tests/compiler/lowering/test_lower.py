"""What is lowered to how many commands in how much memory, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints.description import Rotary
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, inputs_for, llama, vit
from compiler.lowering.fusion import FUSION_LEVELS, Fusion, fusion_named
from compiler.lowering.lower import lower
from compiler.program.assembly.listing import disassemble
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=4)
STATES = Inputs("states", np.ones((1, 3, 12)))


def counted(model, inputs, **options):
    program = lower(CONFIG, model, inputs, **options)
    names = [line.split()[1] for line in disassemble(program.memory, program.address)]
    return {name: names.count(name) for name in ("gemm", "vector", "fence")}


@pytest.mark.parametrize("level, found", list(zip(Fusion, (
    {"gemm": 10, "vector": 7, "fence": 12}, {"gemm": 10, "vector": 6, "fence": 11},
    {"gemm": 10, "vector": 4, "fence": 9}, {"gemm": 10, "vector": 4, "fence": 9},
    {"gemm": 10, "vector": 4, "fence": 9}), strict=True)), ids=FUSION_LEVELS)
def test_commands_of_a_bert_layer(level, found):
    assert counted(bert(layers=1), STATES, layers=range(1), level=level) == found


def test_heads_that_share_keys_decode_at_once():
    model = llama(layers=1, heads=4, kv_heads=2)
    first = counted(model, inputs_for(model, 1))
    # Query, key, value, 2 × scores, 2 × sums, output, up, gate, down, head.
    assert first["gemm"] == 3 + 2 + 2 + 1 + 3 + 1
    # Embedding | norm | query, key | crossed | rotated, value | scores | sums | output | norm |
    # up | gate | down | norm | head.
    assert first["fence"] == 13


def test_memory_is_given_back():
    model, inputs = bert(layers=6), inputs_for(bert(), 20)
    shared = lower(CONFIG, model, inputs)
    apart = lower(CONFIG, model, inputs, keep=True)
    results = sum(tensor.span for tensor in shared.results.values())
    grown = lower(CONFIG, bert(layers=7), inputs).memory.size - shared.memory.size
    assert shared.memory.size < apart.memory.size / 1.5
    assert grown < shared.memory.size / 5 and results > 6 * 20 * 12 * 3


def test_programs_are_for_one_build():
    model = vit()
    program = lower(CONFIG, model, inputs_for(model, 3))
    for other in (AcceleratorConfig("e4m3", dim=4), AcceleratorConfig("posit8", dim=4, acc="exact"),
                  AcceleratorConfig("posit8", dim=4, functions="softmax")):
        outcome = Machine(other).run(program.memory.copy(), program.address)
        assert outcome.error is not None and outcome.commands == 0


def changed(model, **attention):
    block = model.blocks[0]
    return replace(model, blocks=(replace(block, attention=replace(
        block.attention, **attention)), *model.blocks[1:]))


@pytest.mark.parametrize("model, inputs, options, message", [
    (bert(), inputs_for(bert(), 3), {"layers": range(1, 3)},
     r"layers must be A:B with 0 <= A < B <= 2, not 1:3"),
    (bert(), inputs_for(bert(), 3), {"layers": range(1, 2)}, "layers from 1 on take states"),
    (bert(), inputs_for(bert(), 3), {"steps": (2, 1)}, "several steps take a causal model"),
    (llama(), inputs_for(llama(), 3), {"steps": (2, 2)}, r"steps .* add up to 3, not \[2, 2\]"),
    (llama(), inputs_for(llama(), 3, 2), {"steps": (2, 1)}, "several steps take one sequence"),
    (bert(), inputs_for(vit(), 3), {}, "random BERT takes ids, not patches"),
    (bert(), Inputs("ids", np.array([[50]])), {}, "ids must be from 0 to 49, not 50 to 50"),
    (bert(), Inputs("ids", np.zeros((1, 33), int)), {}, "at most 32 positions, not 33"),
    (bert(), Inputs("states", np.ones((1, 3, 13))), {}, "12 items a position, not 13"),
    (bert(), Inputs("ids", np.zeros(3, int)), {}, "ids must have 2 dimensions"),
    (bert(), Inputs("ids", np.zeros((1, 3), int), np.zeros((1, 3), bool)), {},
     "with a valid position in each sequence"),
    (changed(llama(), causal=False), inputs_for(llama(), 3), {}, "causal all or none"),
    (changed(llama(), kv_heads=3), inputs_for(llama(), 3), {}, "heads must be a multiple"),
    (changed(bert(width=9), rotary=Rotary(1e4, True)), inputs_for(bert(), 3), {},
     "heads of an even size, not 3"),
    (changed(bert(), key=replace(bert().blocks[0].attention.key, bias=None)), STATES, {},
     "bias must be given for all of query, key and value or for none; zeros may stand"),
    (replace(llama(), pooling="mean"), inputs_for(llama(), 3), {}, "mean pooling takes a model"),
])
def test_refusals(model, inputs, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        lower(CONFIG, model, inputs, **options)
    assert "\n" not in str(caught.value)


def test_level_names():
    assert fusion_named("norm") is Fusion.NORM
    with pytest.raises(ValueError, match="fusion must be one of none, scaling, .* not 'all'"):
        fusion_named("all")
