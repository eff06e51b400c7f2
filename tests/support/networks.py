"""Small networks of every family with losses, for tests of gradients."""

from dataclasses import replace

import numpy as np

from compiler.checkpoints import samples
from compiler.checkpoints.description import Linear
from compiler.training.gradients.network import Batch


def _head(rng, outputs, width):
    return Linear(rng.normal(0, 0.5, (outputs, width)), rng.normal(0, 0.5, outputs))


def _valid(sequences, length):
    """The second sequence is shorter than the others."""
    valid = np.ones((sequences, length), bool)
    valid[1, length - 2:] = False
    return valid


def bert(pooling="mean", activation="gelu", padded=True):
    rng = np.random.default_rng(1)
    model = samples.bert(width=6, heads=2, hidden=8, words=10, positions=5, pooling=pooling)
    blocks = tuple(replace(block, feed_forward=replace(block.feed_forward, activation=activation))
                   for block in model.blocks)
    ids = rng.integers(0, 10, (3, 5))
    return (replace(model, blocks=blocks, head=_head(rng, 3, 6)),
            Batch(ids, np.array([0, 2, 1]), _valid(3, 5) if padded else None), "classes")


def vit():
    rng = np.random.default_rng(2)
    model = samples.vit(width=6, heads=2, hidden=8, items=3, positions=4, classes=3)
    return model, Batch(rng.normal(0, 1, (3, 4, 3)), np.array([0, 2, 1])), "classes"


def llama(interleaved=True):
    rng = np.random.default_rng(3)
    model = samples.llama(width=8, heads=4, kv_heads=2, hidden=6, words=9, interleaved=interleaved)
    ids = rng.integers(0, 9, (2, 5))
    return model, Batch(ids, ids, _valid(2, 5)), "vocabulary"


def spans():
    """Of positions of two kinds."""
    model, batch, _ = bert(pooling="none")
    rng = np.random.default_rng(4)
    labels = np.array([[0, 4], [1, 2], [3, 3]])
    head, kinds = _head(rng, 2, 6), np.stack([model.embedding.segment, rng.normal(0, 0.3, 6)])
    embedding = replace(model.embedding, segments=kinds)
    return (replace(model, head=head, embedding=embedding),
            replace(batch, labels=labels, segments=np.arange(5) // 2 % 2 + np.zeros((3, 1), int)),
            "spans")


def tokens():
    """Classes of positions, of which some have none, and one that pads says one."""
    model, batch, _ = bert(pooling="none")
    labels = np.array([[-1, 2, 0, 1, -1], [0, -1, 1, 2, 2], [-1, -1, -1, 2, -1]])
    return model, replace(batch, labels=labels), "tokens"


def masked():
    """Ids of positions, of some, by a head of two layers, the last the embedding's table."""
    model, batch, _ = bert(pooling="none")
    labels = np.array([[-1, 7, 0, 1, -1], [0, -1, 9, 2, 2], [-1, -1, -1, 4, -1]])
    return samples.masked(model), replace(batch, labels=labels), "tokens"


NETWORKS = {"bert": bert, "vit": vit, "llama": llama, "spans": spans, "tokens": tokens,
            "masked": masked}
