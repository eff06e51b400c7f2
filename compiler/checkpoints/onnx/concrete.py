"""Operators on values that are known: sizes, positions, masks, and samples of what is looked at.

Each is what onnx.ai says of it, in numpy, for the forms that exporters write around an encoder's
arithmetic. ``OPERATORS`` by name: (attributes, inputs) → the output. Raises what numpy raises.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compiler.checkpoints.functions import erf, gelu
from compiler.checkpoints.onnx.tensor import BFLOAT16, TYPES

__all__ = ["OPERATORS", "axes_of", "items_made"]

Attributes = Mapping[str, Any]
Operator = Callable[[Attributes, list[Any]], np.ndarray]


def numpy_type(kind: object) -> np.dtype:
    if not isinstance(kind, int) or kind not in TYPES or kind == BFLOAT16:
        raise ValueError(f"type {kind} is none of {', '.join(map(str, TYPES))}")
    return np.dtype(TYPES[kind])


def axes_of(given: Attributes, inputs: list[Any], at: int = 1) -> list[int] | None:
    """Axes, an attribute or, in later sets of operators, an input."""
    if len(inputs) > at and inputs[at] is not None:
        return [int(axis) for axis in np.asarray(inputs[at]).ravel()]
    found = given.get("axes")
    return None if found is None else [int(axis) for axis in found]


def _reduced(of: Callable) -> Operator:
    def run(given: Attributes, inputs: list[Any]) -> np.ndarray:
        axes = axes_of(given, inputs)
        if not axes and given.get("noop_with_empty_axes"):
            return inputs[0]
        return np.asarray(of(inputs[0], tuple(axes) if axes else None,
                             bool(given.get("keepdims", 1))), inputs[0].dtype)
    return run


def _reduce(of: Callable) -> Operator:
    return _reduced(lambda x, axes, keep: of(x, axis=axes, keepdims=keep))


def _norm(x: np.ndarray, axes: Any, keep: bool) -> np.ndarray:
    return np.sqrt(np.square(x).sum(axis=axes, keepdims=keep))


def _divide(_: Attributes, inputs: list[Any]) -> np.ndarray:
    a, b = inputs
    if not np.issubdtype(a.dtype, np.integer):
        return a / b
    if not np.all(b):
        raise ValueError("a whole number must not be divided by 0")
    return np.asarray(np.sign(a) * np.sign(b) * (abs(a) // abs(b)), a.dtype)  # towards zero


def _slice(given: Attributes, inputs: list[Any]) -> np.ndarray:
    x = inputs[0]
    starts, ends = (inputs[1], inputs[2]) if len(inputs) > 2 else (given["starts"], given["ends"])
    axes = inputs[3] if len(inputs) > 3 else given.get("axes")
    steps = inputs[4] if len(inputs) > 4 else None
    starts, ends = np.asarray(starts).ravel(), np.asarray(ends).ravel()
    axes = range(len(starts)) if axes is None else np.asarray(axes).ravel()
    steps = np.ones(len(starts), int) if steps is None else np.asarray(steps).ravel()
    chosen = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0 and end < -x.shape[axis]:
            end = None
        chosen[axis] = slice(int(start), None if end is None else int(end), int(step))
    return x[tuple(chosen)]


def _reshape(given: Attributes, inputs: list[Any]) -> np.ndarray:
    x, sizes = inputs[0], [int(size) for size in inputs[1]]
    if not given.get("allowzero"):
        sizes = [x.shape[index] if size == 0 else size for index, size in enumerate(sizes)]
    return x.reshape(sizes)


def _squeeze(given: Attributes, inputs: list[Any]) -> np.ndarray:
    axes = axes_of(given, inputs)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _expand(_: Attributes, inputs: list[Any]) -> np.ndarray:
    x, shape = inputs[0], tuple(int(size) for size in inputs[1])
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, shape))


def _filled(given: Attributes, inputs: list[Any]) -> np.ndarray:
    value = given.get("value")
    fill = np.zeros(1, np.float32) if value is None else value.load()
    return np.full(inputs[0], fill.ravel()[0], fill.dtype)


def _range(_: Attributes, inputs: list[Any]) -> np.ndarray:
    start, limit, step = (own.item() for own in inputs)
    if step == 0:
        raise ValueError("a range must have a step other than 0")
    return np.arange(start, limit, step).astype(inputs[0].dtype)


def _gather(given: Attributes, inputs: list[Any]) -> np.ndarray:
    return np.take(inputs[0], inputs[1], axis=given.get("axis", 0), mode="raise")


def _gather_elements(given: Attributes, inputs: list[Any]) -> np.ndarray:
    x, index = inputs
    axis = given.get("axis", 0)
    # Of a longer x only the first places along other axes are taken.
    own = tuple(slice(None) if here == range(x.ndim)[axis] else slice(size)
                for here, size in enumerate(index.shape))
    return np.take_along_axis(x[own], index, axis)


def _gather_nd(given: Attributes, inputs: list[Any]) -> np.ndarray:
    if given.get("batch_dims"):
        raise ValueError("batch_dims must be 0")
    x, index = inputs
    return x[tuple(np.moveaxis(index, -1, 0))]


def _cumulated(given: Attributes, inputs: list[Any]) -> np.ndarray:
    if given.get("exclusive") or given.get("reverse"):
        raise ValueError("exclusive and reverse must be 0")
    return np.cumsum(inputs[0], axis=int(inputs[1].item()), dtype=inputs[0].dtype)


def _clip(given: Attributes, inputs: list[Any]) -> np.ndarray:
    low, high = [*inputs[1:3], None, None][:2] if len(inputs) > 1 else (
        given.get("min"), given.get("max"))
    x = inputs[0]
    x = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return x if high is None else np.minimum(x, np.asarray(high, x.dtype))


def _triangle(given: Attributes, inputs: list[Any]) -> np.ndarray:
    offset = int(inputs[1].item()) if len(inputs) > 1 and inputs[1] is not None else 0
    return (np.triu if given.get("upper", 1) else np.tril)(inputs[0], offset)


def _softmax(given: Attributes, inputs: list[Any]) -> np.ndarray:
    axis = given.get("axis", -1)
    e = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _gelu(given: Attributes, inputs: list[Any]) -> np.ndarray:
    x = inputs[0]
    if given.get("approximate", "none") == "tanh":
        return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))) / 2
    return gelu(x) if x.dtype == np.float32 else x * (1 + erf(x * math.sqrt(0.5))) / 2


def _cast(given: Attributes, inputs: list[Any]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return inputs[0].astype(numpy_type(given.get("to")))


def _plain(of: Callable) -> Operator:
    return lambda given, inputs: np.asarray(of(*inputs))


def _folded(of: Callable) -> Operator:
    def run(_: Attributes, inputs: list[Any]) -> np.ndarray:
        found = inputs[0]
        for other in inputs[1:]:
            found = of(found, other)
        return found
    return run


def _scatter_nd(given: Attributes, inputs: list[Any]) -> np.ndarray:
    if given.get("reduction", "none") != "none":
        raise ValueError("reduction must be none")
    found = inputs[0].copy()
    found[tuple(np.moveaxis(inputs[1], -1, 0))] = inputs[2]
    return found


def items_made(op: str, given: Attributes, inputs: list[Any]) -> int:
    """How many items the output will have at most, before it is made."""
    arrays = [own for own in inputs if isinstance(own, np.ndarray)]
    if op == "ConstantOfShape":
        return math.prod(int(size) for size in inputs[0])
    if op == "Range":
        start, limit, step = (own.item() for own in inputs)
        return math.ceil((limit - start) / step) if step else 0
    if op == "Tile":
        return inputs[0].size * math.prod(int(size) for size in inputs[1])
    if op == "Concat":
        return sum(own.size for own in arrays)
    if op == "Gather":
        return inputs[1].size * inputs[0].size // max(inputs[0].shape[given.get("axis", 0)], 1)
    if op == "GatherND":
        return inputs[1].size * inputs[0].size
    if op == "Expand":
        return math.prod(np.broadcast_shapes(inputs[0].shape, tuple(int(n) for n in inputs[1])))
    try:  # of items
        return math.prod(np.broadcast_shapes(*(own.shape for own in arrays)))
    except ValueError:
        return max(own.size for own in arrays)


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(np.abs), "Add": _plain(np.add), "And": _plain(np.logical_and), "Cast": _cast,
    "Ceil": _plain(np.ceil), "Clip": _clip, "ConstantOfShape": _filled, "CumSum": _cumulated,
    "Concat": lambda given, inputs: np.concatenate(
        [np.asarray(own) for own in inputs], axis=given["axis"]),
    "Div": _divide, "Equal": _plain(np.equal), "Erf": lambda _, inputs: erf(inputs[0]).astype(
        inputs[0].dtype), "Exp": _plain(np.exp), "Expand": _expand,
    "Flatten": lambda given, inputs: inputs[0].reshape(
        math.prod(inputs[0].shape[:given.get("axis", 1)]), -1),
    "Floor": _plain(np.floor), "Gather": _gather, "GatherElements": _gather_elements,
    "GatherND": _gather_nd, "Gelu": _gelu,
    "Greater": _plain(np.greater), "GreaterOrEqual": _plain(np.greater_equal),
    "Identity": _plain(np.asarray), "IsNaN": _plain(np.isnan), "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal), "Log": _plain(np.log), "Max": _folded(np.maximum),
    "Min": _folded(np.minimum), "Mod": _plain(np.mod), "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative), "Not": _plain(np.logical_not), "Or": _plain(np.logical_or),
    "Pow": lambda _, inputs: np.power(inputs[0], inputs[1]).astype(inputs[0].dtype),
    "Range": _range, "Reciprocal": _plain(np.reciprocal), "ReduceL2": _reduced(_norm),
    "ReduceMax": _reduce(np.max), "ReduceMean": _reduce(np.mean), "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod), "ReduceSum": _reduce(np.sum),
    "Relu": lambda _, inputs: np.maximum(inputs[0], 0), "Reshape": _reshape,
    "ScatterND": _scatter_nd, "Sigmoid": lambda _, inputs: 1 / (1 + np.exp(-inputs[0])),
    "Sign": _plain(np.sign), "Slice": _slice, "Softmax": _softmax, "Sqrt": _plain(np.sqrt),
    "Squeeze": _squeeze, "Sub": _plain(np.subtract), "Sum": _folded(np.add),
    "Tanh": _plain(np.tanh), "Tile": _plain(np.tile),
    "Transpose": lambda given, inputs: np.transpose(inputs[0], given.get("perm")),
    "Trilu": _triangle,
    "Unsqueeze": lambda given, inputs: np.expand_dims(
        inputs[0], tuple(axes_of(given, inputs) or ())),
    "Where": _plain(np.where),
}
