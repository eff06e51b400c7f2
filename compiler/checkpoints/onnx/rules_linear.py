"""Products: linear layers, scores of attention, sums over values."""

from dataclasses import replace
from typing import Any

import numpy as np

from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import (
    Code,
    Dense,
    Expression,
    Mixed,
    Probabilities,
    Scores,
    Weight,
    function_of,
    multiple,
)
from compiler.checkpoints.onnx.format import Node
from compiler.checkpoints.onnx.pooled import pooled
from compiler.checkpoints.onnx.symbols import Atom, Probe, Symbol, atoms, bare

__all__ = ["RULES", "dense"]


def _as_weight(value: Any) -> Weight | None:
    """A matrix that is known, as one of the file."""
    if isinstance(value, Weight):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind == "f":
        return Weight(value.shape, lambda: value)
    return None


def dense(context: Context, node: Node, x: Any, weight: Weight) -> Symbol:
    """x · ``weight``, inputs × outputs."""
    if isinstance(x, Probe):
        x = pooled(context, x)
    x, code = bare(x)
    if len(weight.shape) != 2 or weight.kind != "f":
        raise context.refuse(node, f"multiply by a matrix of numbers with their scales, not "
                             f"{weight.kind} of {weight.shape}")
    inputs, outputs = weight.shape
    if x.features != inputs:
        raise context.refuse(node, f"multiply the {inputs} features of a position, not "
                             f"{x.shape}")
    return Symbol(Dense(node.label, x.expression, weight.turned, code=code),
                  (*x.axes[:-1], atoms(("f", outputs))))


def _matmul(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    a, b = inputs
    weight = _as_weight(b)
    if weight is not None and isinstance(a, (Symbol, Probe)):
        return dense(context, node, a, weight)
    if isinstance(a, Symbol) and isinstance(b, Symbol):
        return _attention(context, node, a, b)
    return None


def _gemm(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    given, weight = node.attributes, _as_weight(inputs[1])
    if weight is None or not isinstance(inputs[0], (Symbol, Probe)):
        return None
    if given.get("transA") or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
        raise context.refuse(node, "have transA 0, alpha 1 and beta 1")
    found = dense(context, node, inputs[0], weight.turned if given.get("transB") else weight)
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is None:
        return found
    layer = found.expression
    assert isinstance(layer, Dense)
    if not isinstance(bias, np.ndarray) or bias.size != layer.weight.shape[0]:
        raise context.refuse(node, f"add {layer.weight.shape[0]} known values")
    return found.of(replace(layer, bias=bias.reshape(-1)))


def _attention(context: Context, node: Node, a: Symbol, b: Symbol) -> Symbol:
    """Q Kᵀ or P V, by what the axes are."""
    (a, code_a), (b, code_b) = bare(a), bare(b)
    if len(a.axes) != len(b.axes) or len(a.axes) < 3 or a.axes[:-2] != b.axes[:-2] or len(
            a.axes[-1]) != 1 or len(b.axes[-2]) != 1:
        raise context.refuse(node, f"be a product of heads, of sequences and heads alike, not of "
                             f"{a.shape} and {b.shape}")
    lead, rows, columns = a.axes[:-2], a.axes[-2], b.axes[-1]
    inner, outer = a.axes[-1][0], b.axes[-2][0]
    position = Atom("s", context.positions)
    codes = (code_a, code_b)
    if inner.kind == "k" and outer == position and rows == (position,):
        mixed = Mixed(node.label, _probabilities(context, node, a), b.expression, codes)
        return Symbol(mixed, (*lead, rows, columns))
    if inner == outer and inner.kind in ("f", "f.1") and rows == columns == (position,):
        return _scores(node, (*lead, rows, (Atom("k", position.size),)), a.expression,
                       b.expression, codes)
    raise context.refuse(node, f"be Q Kᵀ or P V, not a product of {a.shape} and {b.shape}")


def _probabilities(context: Context, node: Node, a: Symbol) -> Expression:
    if not isinstance(a.expression, Probabilities):
        raise context.refuse(node, "multiply values by a softmax over keys, not by what "
                             f"{a.expression.label} gives")
    return a.expression


def _scores(node: Node, axes: Any, query: Expression, key: Expression,
            codes: tuple[Code | None, Code | None]) -> Symbol:
    """With factors of queries and keys in one."""
    factor, plain, kept = 1.0, [], []
    for own, code in zip((query, key), codes, strict=True):
        base, function = function_of(own)
        step = multiple(function)
        if step:
            factor, own = factor * step, base
            if code is not None and code.scale is not None:
                code = replace(code, scale=code.scale / abs(step))
        plain.append(own)
        kept.append(code)
    heads = next((atom.size for axis in axes[:-2] for atom in axis if atom.kind == "f.0"), 1)
    return Symbol(Scores(node.label, plain[0], plain[1], factor, heads, (kept[0], kept[1])), axes)


RULES = {"MatMul": _matmul, "Gemm": _gemm}
