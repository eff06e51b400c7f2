"""The arrays of a transformer by name, and a transformer of other arrays.

Names follow ``compiler.checkpoints.description``: ``embedding.table``, ``blocks.0.query.weight``,
``blocks.0.feed_forward_norm.gain``, ``final_norm.gain``, ``transform.weight``,
``transform_norm.gain``, ``head.bias``. A head that is the embedding's table has no name of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.description import Block, Linear, Norm, Patches, Transformer
from compiler.training.gradients.trainable import check_trainable

__all__ = ["PARTS", "block_name", "linears", "output_sites", "parameters", "tied",
           "with_parameters"]

Array = np.ndarray
# Linear layers of a block: where they stand in it.
PARTS = {"query": "attention", "key": "attention", "value": "attention", "output": "attention",
         "gate": "feed_forward", "up": "feed_forward", "down": "feed_forward"}
_NORMS = ("attention_norm", "feed_forward_norm")


def block_name(index: int) -> str:
    return f"blocks.{index}"


def tied(model: Transformer) -> bool:
    """Whether the head is the embedding's table."""
    table = getattr(model.embedding, "table", None)
    return model.head is not None and model.head.weight is table


def linears(block: Block) -> dict[str, Linear]:
    """The linear layers that ``block`` has, by part."""
    found = {part: getattr(getattr(block, place), part) for part, place in PARTS.items()}
    return {part: linear for part, linear in found.items() if linear is not None}


def output_sites(model: Transformer) -> dict[str, str]:
    """The site of the gradient of what linear layers give, by what those are called together that
    read the same: ``blocks.0.qkv``, ``.output``, ``.feed_forward``, ``.down``."""
    found: dict[str, str] = {}
    last = len(model.blocks) - 1
    for index in range(len(model.blocks)):
        name = block_name(index)
        attention, feed_forward = f"{name} attention d", f"{name} feed-forward d"
        if model.blocks[index].pre_norm:
            attention = feed_forward
            feed_forward = f"{block_name(index + 1)} attention d" if index < last else (
                "last residual" if model.final_norm is None else "final norm d")
        found |= {f"{name}.qkv": f"{name} dqkv", f"{name}.output": attention,
                  f"{name}.feed_forward": f"{name} du", f"{name}.down": feed_forward}
    return found


def _of_linear(name: str, linear: Linear) -> dict[str, Array]:
    bias = {} if linear.bias is None else {f"{name}.bias": linear.bias}
    return {f"{name}.weight": linear.weight} | bias


def _of_norm(name: str, norm: Norm | None) -> dict[str, Array]:
    if norm is None:
        return {}
    return {f"{name}.gain": norm.gain} | (
        {} if norm.shift is None else {f"{name}.shift": norm.shift})


def _of_block(name: str, block: Block) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for part, linear in linears(block).items():
        found |= _of_linear(f"{name}.{part}", linear)
    for part in _NORMS:
        found |= _of_norm(f"{name}.{part}", getattr(block, part))
    return found


def parameters(model: Transformer) -> dict[str, Array]:
    """Every array of ``model`` by name, as it is; reads all layers. ``ValueError`` for a form of
    model that has no backward pass (``trainable``)."""
    check_trainable(model)
    embedding = model.embedding
    if isinstance(embedding, Patches):
        found = _of_linear("embedding.projection", embedding.projection)
        found |= {"embedding.positions": embedding.positions}
    else:
        found = {f"embedding.{part}": getattr(embedding, part)
                 for part in ("table", "positions", "segment")
                 if getattr(embedding, part) is not None}
        found |= _of_norm("embedding.norm", embedding.norm)
    for index, block in enumerate(model.blocks):
        found |= _of_block(block_name(index), block)
    found |= _of_norm("final_norm", model.final_norm)
    if model.transform is not None:
        found |= _of_linear("transform", model.transform.linear)
        found |= _of_norm("transform_norm", model.transform.norm)
    if model.head is not None:
        found |= _of_linear("head", model.head)
        if tied(model):
            del found["head.weight"]
    return found


def with_parameters(model: Transformer, changed: Mapping[str, Array]) -> Transformer:
    """``model`` with the ``changed`` arrays in place of its own; layers are read when asked for.

    ``ValueError`` for a name that it does not have or another shape.
    """
    left = set(changed)

    def array(name: str, own: Array) -> Array:
        left.discard(name)
        new = changed.get(name, own)
        if new.shape != own.shape:
            raise ValueError(f"{name} must be of shape {own.shape}, not {new.shape}")
        return new

    def bias(name: str, own: Linear) -> Array | None:
        return own.bias if own.bias is None else array(f"{name}.bias", own.bias)

    def linear(name: str, own: Linear) -> Linear:
        return Linear(array(f"{name}.weight", own.weight), bias(name, own))

    def norm(name: str, own: Norm | None) -> Norm | None:
        if own is None:
            return None
        shift = own.shift if own.shift is None else array(f"{name}.shift", own.shift)
        return replace(own, gain=array(f"{name}.gain", own.gain), shift=shift)

    embedding = model.embedding
    if isinstance(embedding, Patches):
        embedding = replace(
            embedding, projection=linear("embedding.projection", embedding.projection),
            positions=array("embedding.positions", embedding.positions))
    else:
        embedding = replace(
            embedding, norm=norm("embedding.norm", embedding.norm),
            **{part: array(f"embedding.{part}", getattr(embedding, part))
               for part in ("table", "positions", "segment")
               if getattr(embedding, part) is not None})
    head = model.head
    if tied(model):
        head = Linear(embedding.table, bias("head", head))
    elif head is not None:
        head = linear("head", head)
    transform = model.transform
    if transform is not None:
        transform = replace(transform, linear=linear("transform", transform.linear),
                            norm=norm("transform_norm", transform.norm))
    made = replace(model, embedding=embedding, transform=transform, head=head,
                   final_norm=norm("final_norm", model.final_norm),
                   blocks=_blocks(model, changed, linear, norm))
    known = tuple(f"{block_name(index)}." for index in range(len(model.blocks)))
    wrong = sorted(name for name in left if not name.startswith(known))
    if wrong:
        raise ValueError(f"{wrong[0]} is no parameter of {model.name}")
    return made


def _blocks(model: Transformer, changed: Mapping[str, Array],
            linear: Callable[[str, Linear], Linear], norm: Callable[[str, Norm], Norm]
            ) -> LazyBlocks:
    """The layers of ``model`` with the ``changed`` arrays, each made when it is asked for."""
    def make(index: int) -> Block:
        block, name = model.blocks[index], block_name(index)
        wrong = [item for item in changed if item.startswith(f"{name}.")
                 and item not in _of_block(name, block)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no parameter of {model.name}")
        parts = {part: linear(f"{name}.{part}", own) for part, own in linears(block).items()}
        gate = parts.get("gate")
        return replace(
            block,
            attention=replace(block.attention, **{part: parts[part] for part in
                                                  ("query", "key", "value", "output")}),
            feed_forward=replace(block.feed_forward, up=parts["up"], down=parts["down"],
                                 gate=gate),
            **{part: norm(f"{name}.{part}", getattr(block, part)) for part in _NORMS})

    return LazyBlocks(len(model.blocks), make)
