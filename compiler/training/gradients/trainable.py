"""Which forms of model have a backward pass."""

from collections.abc import Iterator
from dataclasses import fields

from compiler.checkpoints.description import Block, Transformer

__all__ = ["check_trainable"]

# Fields that the backward pass knows with their default alone, and what they are called.
_ONLY_DEFAULT = {
    "Transformer": {"cap": "capped logits", "encoder": "an encoder before a decoder",
                    "speech": "what hears"},
    "Tokens": {"factor": "a factor of the embedding", "neighbours": "embeddings with neighbours",
               "row_projection": "a projection of the embedding",
               "norm_projection": "a projection of the embedding"},
    "Patches": {"norm": "a norm of patches", "convolution": "convolutions of frames"},
    "Norm": {"affine": "norms without mean and variance", "kind": "norms by magnitudes"},
    "Rotary": {"rates": "scaled or partial rotary embedding",
               "factor": "scaled rotary embedding"},
    "Attention": {"window": "a sliding window", "scale": "a scale of scores other than 1/√size",
                  "cap": "capped scores", "query_norm": "norms of queries and keys",
                  "key_norm": "norms of queries and keys",
                  "position_bias": "scores with a bias for their distance",
                  "kernel": "polynomial attention"},
    "Block": {"attention_after": "norms after attention", "parallel": "parallel layers",
              "feed_forward_after": "norms after the feed-forward",
              "across": "attention to an encoder", "across_norm": "attention to an encoder",
              "stack": "several feed-forwards in a layer", "bottleneck": "bottlenecks"},
}
_ACTIVATIONS = ("gelu", "gelu_sigmoid", "relu", "silu")


def _of_block(block: Block) -> Iterator[object]:
    yield block
    yield block.attention
    found = block.attention.rotary, block.attention_norm, block.feed_forward_norm
    yield from (part for part in found if part is not None)


def check_trainable(model: Transformer) -> None:
    """``ValueError`` in one line for a model with a part that has no backward pass."""
    own = (model.embedding.norm, model.final_norm,
           None if model.transform is None else model.transform.norm)
    norms = (norm for norm in own if norm is not None)
    for part in (model, model.embedding, *norms):
        _check_part(model, part)
    for block in model.blocks:  # once: each may be read from its file anew
        for part in _of_block(block):
            _check_part(model, part)
        _check_activation(model, block.feed_forward.activation, "its activation")
        if None in (block.attention_norm, block.feed_forward_norm):
            raise ValueError(f"{model.name} cannot be trained: layers must have both norms")
    if model.transform is not None:
        if model.pooling != "none" or model.transform.norm is None:
            raise ValueError(f"{model.name} cannot be trained: a head of two layers cannot, but "
                             "that of masked words, of each position and with a norm")
        _check_activation(model, model.transform.activation, "its head's activation")
    if model.pooling in ("last", "first_l2", "first_two"):
        raise ValueError(f"{model.name} cannot be trained: pooling must be none, first, mean or "
                         f"mean_l2, not {model.pooling}")


def _check_activation(model: Transformer, activation: str | None, called: str) -> None:
    if activation not in _ACTIVATIONS:
        raise ValueError(f"{model.name} cannot be trained: {called} must be one of "
                         f"{', '.join(_ACTIVATIONS)}, not {activation or 'none'}")


def _check_part(model: Transformer, part: object) -> None:
    known = _ONLY_DEFAULT.get(type(part).__name__, {})
    for field in fields(part):
        if field.name in known and getattr(part, field.name) != field.default:
            raise ValueError(f"{model.name} cannot be trained: {known[field.name]} cannot; "
                             "plain BERT, ViT and Llama models can")
