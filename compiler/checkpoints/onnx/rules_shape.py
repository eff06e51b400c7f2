"""What turns a value without changing it: reshapes, transposes, lookups in tables."""

import math
from typing import Any

import numpy as np

from compiler.checkpoints.onnx.concrete import axes_of
from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import Lookup, Part, Weight
from compiler.checkpoints.onnx.format import Node
from compiler.checkpoints.onnx.symbols import Symbol, atoms, regrouped
from compiler.checkpoints.onnx.tensor import FLOATS

__all__ = ["RULES", "WEIGHT_RULES"]


def _sizes(node: Node, shape: tuple[int, ...], asked: np.ndarray) -> tuple[int, ...]:
    sizes = [int(size) for size in asked]
    if not node.attributes.get("allowzero"):
        sizes = [shape[index] if size == 0 else size for index, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(shape) // max(rest, 1)
    if min(sizes, default=1) < 1:
        raise ValueError(f"a shape must have sizes from 1 up, not {sizes}")
    return tuple(sizes)


def _reshape(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x = inputs[0]
    return x.seen(regrouped(x.axes, _sizes(node, x.shape, inputs[1])))


def _flatten(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x, axis = inputs[0], node.attributes.get("axis", 1)
    return x.seen(regrouped(x.axes, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))))


def _transpose(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x = inputs[0]
    order = node.attributes.get("perm") or range(len(x.axes))[::-1]
    if sorted(order) != list(range(len(x.axes))):
        raise ValueError(f"perm must be an order of {len(x.axes)} axes, not {list(order)}")
    return x.seen(tuple(x.axes[axis] for axis in order))


def _squeeze(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x, axes = inputs[0], axes_of(node.attributes, inputs)
    rank = len(x.axes)
    chosen = ([index for index, axis in enumerate(x.axes) if not axis] if axes is None
              else [range(rank)[axis] for axis in axes])
    if any(x.axes[axis] for axis in chosen):
        raise ValueError(f"axes {chosen} must be of size 1 in {x.shape}")
    return x.seen(tuple(axis for index, axis in enumerate(x.axes) if index not in chosen))


def _unsqueeze(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x, axes = inputs[0], axes_of(node.attributes, inputs) or []
    rank = len(x.axes) + len(axes)
    chosen = {range(rank)[axis] for axis in axes}
    rest = iter(x.axes)
    return x.seen(tuple(() if index in chosen else next(rest) for index in range(rank)))


def _same(context: Context, node: Node, inputs: list[Any]) -> Any:
    return inputs[0]


def _cast(context: Context, node: Node, inputs: list[Any]) -> Any:
    """To a type of floating point alone; ``None`` for others."""
    return inputs[0] if node.attributes.get("to") in FLOATS else None


def _shape(context: Context, node: Node, inputs: list[Any]) -> np.ndarray:
    shape = inputs[0].shape
    first, last = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
    return np.array(shape, np.int64)[first:last]


def _expand(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    x = inputs[0]
    same = np.broadcast_shapes(x.shape, tuple(int(size) for size in inputs[1])) == x.shape
    return x if same else None


def _split(context: Context, node: Node, inputs: list[Any]) -> list[Symbol] | None:
    """Of features."""
    x = inputs[0]
    rank, count = len(x.axes), len(node.outputs)
    if x.features is None or range(rank)[node.attributes.get("axis", 0)] != rank - 1:
        return None
    sizes = inputs[1] if len(inputs) > 1 else node.attributes.get("split")
    if sizes is None:
        if x.features % count:
            raise ValueError(f"{x.features} features must be split evenly, not into {count}")
        sizes = [x.features // count] * count
    stops = np.cumsum([int(size) for size in sizes])
    if len(stops) != count or stops[-1] != x.features or min(sizes) < 1:
        raise ValueError(f"{list(sizes)} must be the sizes of {count} parts of {x.features}")
    shapes = [(*x.shape[:-1], int(size)) for size in sizes]
    return [Symbol(Part(node.label, x.expression, int(stop - shape[-1]), int(stop)),
                   _with_features(x, shape[-1]))
            for stop, shape in zip(stops, shapes, strict=True)]


def _with_features(x: Symbol, size: int) -> Any:
    return (*x.axes[:-1], atoms(("f", size)))


def _lookup(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    """Rows of a table, by what the indices are of the inputs."""
    table, index = inputs
    if not isinstance(table, Weight) or not isinstance(index, np.ndarray):
        return None
    if len(table.shape) != 2 or node.attributes.get("axis", 0) != 0:
        raise context.refuse(node, f"take rows of a matrix, not of {table.shape}")
    rows = table.shape[0]
    if not index.size or index.min() < -rows or index.max() >= rows:
        raise context.refuse(node, f"have indices below {rows}, not up to "
                             f"{index.max() if index.size else 'none'}")
    axes = context.axes((*index.shape, table.shape[1]))
    if axes is None:
        raise context.refuse(node, f"take a row for each position, not {index.shape}")
    what, first = _kind(context, index, rows)
    if what is None:
        raise context.refuse(node, "take rows by token ids, segments or positions, not by others")
    return Symbol(Lookup(node.label, table, what, first), axes)


def _kind(context: Context, index: np.ndarray, rows: int) -> tuple[str | None, int]:
    if (index == index.flat[0]).all():
        return "row", int(index.flat[0])
    if index.shape == context.mask.shape:
        if np.array_equal(index, context.kinds) and rows > 1:
            return "segments", 0
        if np.array_equal(index, context.ids(rows)):
            return "words", 0
    # Of positions that pad some models make none.
    places = index - context.places if index.ndim == 2 else index - context.places[:1]
    counted = np.broadcast_to(context.mask if index.ndim == 2 and len(index) > 1
                              else context.mask[-1:], places.shape) == 1
    valid = places[counted]
    if valid.size and (valid == valid[0]).all() and valid[0] >= 0:
        return "positions", int(valid[0])
    return None, 0


RULES = {"Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze,
         "Unsqueeze": _unsqueeze, "Identity": _same, "Dropout": _same, "Cast": _cast,
         "Shape": _shape, "Expand": _expand, "Split": _split}


# Of matrices in the file

def _turned(context: Context, node: Node, inputs: list[Any]) -> Weight:
    order = node.attributes.get("perm", [1, 0])
    if sorted(order) != [0, 1]:
        raise context.refuse(node, f"have perm 0, 1 or 1, 0, not {order}")
    return inputs[0].turned if list(order) == [1, 0] else inputs[0]


WEIGHT_RULES = {"Transpose": _turned, "Identity": _same, "Cast": _cast, "Gather": _lookup,
                "Shape": _shape}
