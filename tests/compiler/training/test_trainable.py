"""Which families have a backward pass, and that its forward pass is theirs."""

from dataclasses import fields, replace

import numpy as np
import pytest

from compiler.checkpoints import description, load
from compiler.checkpoints.reference import forward
from compiler.checkpoints.samples import integer
from compiler.training.gradients import trainable
from compiler.training.gradients.network import Batch, gradients_of, logits_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters, tied
from compiler.training.gradients.weights import Weights
from compiler.training.tasks import with_head
from support.families import stored


def opened(name, folder):
    case = stored(name)
    model = load(case.write(folder / name))
    return model, case.inputs(model).values


@pytest.mark.parametrize("name", [
    "bert", "bert-masked", "roberta-masked", "xlm-roberta-sequence", "camembert-token",
    "distilbert", "distilbert-sequence", "electra-sequence", "vit", "llama"])
def test_forward_is_that_of_the_reference(name, tmp_path):
    model, values = opened(name, tmp_path)
    if name != "llama":
        model = with_head(model, 3)
    weights = Weights(parameters(model), Exact())
    found = logits_of(model, weights, Exact(), Batch(values, np.zeros(1, int)))
    wanted = forward(model, values[0]).output
    assert found.size == wanted.size and np.abs(found.reshape(wanted.shape) - wanted).max() < 1e-4
    kind = "vocabulary" if name == "llama" else "classes"
    labels = values if name == "llama" else np.zeros(1, int)
    loss, gradients = gradients_of(model, weights, Exact(), Batch(values, labels), kind,
                                   ["blocks.0.query.weight"])
    assert loss > 0 and np.abs(gradients["blocks.0.query.weight"]).max() > 1e-4


@pytest.mark.parametrize("name", ["bert-masked", "roberta-masked", "distilbert-masked"])
def test_masked_words_go_through_a_head_of_two_layers(name, tmp_path):
    model, values = opened(name, tmp_path)
    assert model.transform is not None and tied(model)
    weights, labels = Weights(parameters(model), Exact()), np.where(values % 2, values, -1)
    found = logits_of(model, weights, Exact(), Batch(values, labels))[0]
    wanted = forward(model, values[0]).output
    assert found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-4
    loss, gradients = gradients_of(model, weights, Exact(), Batch(values, labels), "tokens",
                                   ["blocks.0.query.weight", "transform.weight"])
    assert loss > 0 and all(np.abs(own).max() > 1e-4 for own in gradients.values())


@pytest.mark.parametrize("name, message", [
    ("bert-sequence", "cannot be trained: a head of two layers cannot, but that of masked words"),
    ("mpnet", "scores with a bias for their distance"), ("mistral", "a sliding window"),
    ("mobilebert", "embeddings with neighbours"), ("qwen3", "norms of queries and keys"),
    ("gemma", "a factor of the embedding"), ("neox-serial", "scaled or partial rotary embedding"),
    ("gpt2", "its activation must be one of gelu, gelu_sigmoid, relu, silu, not gelu_tanh"),
    ("t5", "an encoder before a decoder"), ("cohere", "parallel layers"),
    ("electra", "a projection of the embedding"), ("clip-vision", "a norm of patches"),
    ("olmo2", "norms after attention"), ("albert-masked", "a projection of the embedding")])
def test_what_has_no_backward_pass_is_one_line(name, message, tmp_path):
    model, _ = opened(name, tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        parameters(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind, message", [
    ("l1", "random Integer Transformer cannot be trained: norms by magnitudes cannot"),
    ("l2", "random Integer Transformer cannot be trained: polynomial attention cannot")])
def test_an_integer_transformer_is_trained_elsewhere(kind, message):
    model = integer()
    model = replace(model, final_norm=replace(model.final_norm, kind=kind), blocks=tuple(
        replace(block, attention_norm=replace(block.attention_norm, kind=kind),
                feed_forward_norm=replace(block.feed_forward_norm, kind=kind))
        for block in model.blocks))
    with pytest.raises(ValueError, match=message):
        parameters(model)


# What the backward pass has a rule for, or what no pass reads.
KNOWN = {
    description.Transformer: {"name", "embedding", "blocks", "final_norm", "head", "pooling",
                              "task", "labels", "longest", "notes", "start", "transform"},
    description.Transform: {"linear", "activation", "norm"},
    description.Tokens: {"table", "positions", "segment", "norm", "segments"},
    description.Patches: {"projection", "positions", "lead", "side"},
    description.Block: {"attention", "attention_norm", "feed_forward", "feed_forward_norm",
                        "pre_norm"},
    description.Attention: {"query", "key", "value", "output", "heads", "kv_heads", "rotary",
                            "causal"},
    description.FeedForward: {"up", "down", "activation", "gate"},
    description.Norm: {"gain", "shift", "eps", "centred_twice"},
    description.Rotary: {"base", "interleaved"},
    description.Linear: {"weight", "bias"},
}


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_whatever_else_a_model_has_is_refused(kind):
    """A field that is new has to be decided upon here."""
    refused = trainable._ONLY_DEFAULT.get(kind.__name__, {})
    assert KNOWN[kind] | set(refused) == {field.name for field in fields(kind)}
    assert not KNOWN[kind] & set(refused)
