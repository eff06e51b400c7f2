"""The backward pass of whole layers with their adapters as programs of today's commands, against
``Bits``: every gradient tensor, item by item.
"""

import numpy as np
import pytest

from compiler.checkpoints import load, samples
from compiler.checkpoints.digits import DRAWN, patches
from compiler.program.builder import read
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine
from support.layer_program import BASE, NAME, Emitter, Layer
from support.wrong_programs import keys_as_they_are

EXACT = AcceleratorConfig("posit8", acc="exact")
IDS = np.random.default_rng(9).integers(0, 40, 13)
MODELS = {"digits ViT": lambda: (load("digits-vit"), patches(DRAWN[3])),
          "BERT": lambda: (samples.bert(), IDS),
          "Llama": lambda: (samples.llama(interleaved=False), IDS)}
SIZES = {"digits ViT": (24, 9344), "BERT": (25, 3123), "Llama": (26, 4048)}


def run(layer, centred):
    """Each gradient as the program and as ``Bits`` have it."""
    low = Emitter(layer, centred).all()
    memory, address = low.builder.build(seed=0)
    assert Machine(layer.config).run(memory, address, BASE).error is None
    for name, wanted in layer.expected(low.found):
        own = read(memory, low.found[name], BASE)
        yield name, own, wanted.reshape(own.shape)


@pytest.mark.parametrize("fmt, acc", [("posit8", "bf16"), ("posit8", "exact"), ("fp8", "fp32"),
                                      ("posit8es2", "bf16")])
@pytest.mark.parametrize("backward", ["ordinary", "centred"])
@pytest.mark.parametrize("family", MODELS)
def test_a_layer_of_commands_has_the_gradients_of_the_rules(family, fmt, acc, backward):
    layer = Layer(AcceleratorConfig(fmt, acc=acc), backward, *MODELS[family]())
    compared = same = tensors = 0
    for name, own, wanted in run(layer, backward == "centred"):
        assert wanted.any(), name
        compared, same = compared + own.size, same + int((own == wanted).sum())
        tensors += 1
    print(f"{family} {fmt} {acc} {backward}: {same} of {compared} items, {tensors} tensors")
    assert (tensors, compared) == SIZES[family] and same == compared


def equal(layer, centred):
    return {name: (own == wanted).mean() for name, own, wanted in run(layer, centred)}


def test_another_form_is_told_apart():
    found = equal(Layer(EXACT, "centred", *MODELS["digits ViT"]()), centred=False)
    assert found[f"{NAME} do"] == 1 and found[f"{NAME} ds"] < 0.97


def test_keys_that_are_not_transposed_are_told_apart(monkeypatch):
    keys_as_they_are(monkeypatch)
    found = equal(Layer(EXACT, "centred", *MODELS["digits ViT"]()), True)
    assert found[f"{NAME} ds"] > 0.99 and found[f"{NAME} dqkv"] < 0.7


@pytest.mark.parametrize("family", MODELS)
def test_the_layer_on_rtl(family):
    machine = small_accelerator("posit8")
    layer = Layer(machine.config, "centred", *MODELS[family]())
    low = Emitter(layer, True).all()
    memory, address = low.builder.build(seed=1)
    outputs = tuple(low.written)
    compared = sum(compare(machine, Case(memory, address, BASE, outputs, "a layer's backward"),
                           profile, seed, rewrites=True)
                   for seed, profile in enumerate(("ideal", "light")))
    print(f"{family}: {compared} bytes")
    assert compared > 2 * SIZES[family][1]
