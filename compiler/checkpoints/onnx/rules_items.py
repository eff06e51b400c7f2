"""Arithmetic on items: biases, residuals, activations, norms spelled out, masks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.checkpoints.onnx.concrete import OPERATORS, axes_of
from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import (
    Centred,
    Dense,
    Elementwise,
    Expression,
    Masked,
    Mean,
    MeanSquare,
    Normed,
    NotNumbers,
    Probabilities,
    Row,
    Scores,
    Sum,
    function_of,
    same_function,
)
from compiler.checkpoints.onnx.format import Node
from compiler.checkpoints.onnx.masks import masked
from compiler.checkpoints.onnx.symbols import Axes, Symbol, bare

__all__ = ["RULES"]

_FUNCTIONS: dict[str, Callable] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply,
                                   "Div": np.divide, "Pow": np.power}
_UNARY = ("Erf", "Exp", "Gelu", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Tanh")
_LIMITS = ("Clip", "Max", "Min")
_POSITIVE = np.geomspace(1e-3, 1e4, 40)


def _unary(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x, _ = bare(inputs[0])
    run, given = OPERATORS[node.op], node.attributes
    return _mapped(node, x, lambda values: run(given, [values]))


def _mapped(node: Node, x: Symbol, outer: Callable) -> Symbol:
    base, inner = function_of(x.expression)

    def function(values: np.ndarray) -> np.ndarray:
        return outer(inner(np.asarray(values, np.float64)))

    return x.of(Elementwise(node.label, base, function))


def _limited(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    x, rest = inputs[0], inputs[1:]
    if not isinstance(x, Symbol) or any(
            own is not None and (not isinstance(own, np.ndarray) or own.size != 1)
            for own in rest):
        return None
    run, given = OPERATORS[node.op], node.attributes
    return _mapped(node, bare(x)[0], lambda values: run(given, [values, *rest]))


def _binary(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    a, b = (bare(own)[0] if isinstance(own, Symbol) else own for own in inputs)
    if isinstance(a, Symbol) and isinstance(b, Symbol):
        return _of_two(context, node, a, b)
    x, known = (a, b) if isinstance(a, Symbol) else (b, a)
    if not isinstance(x, Symbol) or not isinstance(known, np.ndarray):
        return None
    layer = x.expression
    if node.op == "Add" and known.size == 1 and isinstance(layer, Dense) and (
            layer.bias is None and layer.weight.shape[0] == 1):
        return x.of(replace(layer, bias=known.reshape(-1)))
    if known.size == 1 and known.ndim <= len(x.axes):
        number, of = np.float64(known.ravel()[0]), _FUNCTIONS[node.op]
        return _mapped(node, x, (lambda values: of(values, number)) if x is a
                       else (lambda values: of(number, values)))
    if node.op == "Add":
        return _added(context, node, x, known)
    return _times(x, known) if node.op == "Mul" else None


def _row(x: Symbol, known: np.ndarray) -> np.ndarray | None:
    """Values for each feature."""
    size = x.features
    if size is None or known.size != size or not known.ndim or known.shape[-1] != size:
        return None
    return known.reshape(-1)


def _added(context: Context, node: Node, x: Symbol, known: np.ndarray) -> Symbol | None:
    expression, row = x.expression, _row(x, known)
    if row is not None:
        if isinstance(expression, Dense) and expression.bias is None:
            return x.of(replace(expression, bias=row))
        if isinstance(expression, Normed) and expression.shift is None:
            return x.of(replace(expression, shift=row))
        return x.of(Sum(node.label, expression, Row(node.label, row)))
    if isinstance(function_of(expression)[0], (Scores, Masked)):
        return masked(context, node, x, known)
    axes = context.axes(known.shape)
    if axes is not None and known.shape[-1] == x.features and (
            known.ndim == 2 or len(known) == 1):
        return x.of(Sum(node.label, expression, Row(
            node.label, known.reshape(context.positions, -1))))
    return None


def _times(x: Symbol, known: np.ndarray) -> Symbol | None:
    row = _row(x, known)
    if row is None or not isinstance(x.expression, Normed):
        return None
    norm = x.expression
    if norm.shift is not None:
        return None
    return x.of(replace(norm, gain=row if norm.gain is None else norm.gain * row))


def _of_two(context: Context, node: Node, a: Symbol, b: Symbol) -> Symbol:
    (base, f), (other, g), of = (*(function_of(own.expression) for own in (a, b)),
                                 _FUNCTIONS[node.op])
    if base is other and a.axes == b.axes:
        return a.of(Elementwise(node.label, base, lambda values: of(
            f(np.asarray(values, np.float64)), g(np.asarray(values, np.float64)))))
    if node.op == "Sub" and isinstance(b.expression, Mean) and b.expression.x is a.expression:
        return a.of(Centred(node.label, a.expression))
    if node.op in ("Mul", "Div"):
        for x, scale, function in ((a, other, g), (b, base, f)):
            if isinstance(scale, MeanSquare) and scale.x is x.expression and (
                    x is a or node.op == "Mul"):
                return x.of(_normed(context, node, x.expression, function))
    axes = _broadcast(a, b) if node.op == "Add" else None
    if axes is not None:
        return Symbol(Sum(node.label, a.expression, b.expression), axes)
    raise context.refuse(node, f"combine {a.expression.label} and {b.expression.label} as a "
                         "residual, an activation or a norm does")


def _broadcast(a: Symbol, b: Symbol) -> Axes | None:
    """Axes of a sum of the features of positions, which may be those of all sequences."""
    if a.features is None or a.features != b.features:
        return None
    longer, shorter = (a.axes, b.axes) if len(a.axes) >= len(b.axes) else (b.axes, a.axes)
    lead = len(longer) - len(shorter)
    pairs = list(zip(shorter, longer[lead:], strict=True))
    if any(one and other and one != other for one, other in pairs):
        return None
    return (*longer[:lead], *(one or other for one, other in pairs))


def _normed(context: Context, node: Node, x: Expression, function: Callable) -> Normed:
    """x divided by √(mean of squares + eps), or times its inverse."""
    with np.errstate(all="ignore"):
        at_zero = float(function(np.zeros(1))[0])
        power = -0.5 if node.op == "Mul" else 0.5
        eps = at_zero ** (1 / power) if np.isfinite(at_zero) and at_zero else 0.0
    if not same_function(function, lambda values: (values + eps) ** power, _POSITIVE):
        raise context.refuse(node, "divide by the root of a variance and a small number")
    return Normed(node.label, x.x if isinstance(x, Centred) else x, eps, isinstance(x, Centred))


def _reduced_mean(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    x, _ = bare(inputs[0])
    axes, rank = axes_of(node.attributes, inputs), len(x.axes)
    if x.features is None or axes is None or [range(rank)[axis] for axis in axes] != [rank - 1]:
        return None
    base, function = function_of(x.expression)
    found: Expression
    if base is x.expression:
        found = Mean(node.label, base)
    elif same_function(function, np.square):
        found = MeanSquare(node.label, base)
    else:
        return None
    lead = x.axes[:-1]
    return Symbol(found, (*lead, ()) if node.attributes.get("keepdims", 1) else lead)


def _layer_norm(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x, _ = bare(inputs[0])
    gain, shift = [*inputs[1:], None, None][:2]
    if node.attributes.get("axis", -1) not in (-1, len(x.axes) - 1) or x.features is None:
        raise context.refuse(node, "be over the last axis, the features")
    for own in (gain, shift):
        if own is not None and (not isinstance(own, np.ndarray) or own.size != x.features):
            raise context.refuse(node, f"have {x.features} known values as gain and shift")
    norm = Normed(node.label, x.expression, float(node.attributes.get("epsilon", 1e-5)),
                  node.op == "LayerNormalization", None if gain is None else gain.reshape(-1),
                  None if shift is None else shift.reshape(-1))
    return x.of(norm)


def _softmax(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    x, _ = bare(inputs[0])
    axis = node.attributes.get("axis", -1 if context.version >= 13 else 1)
    if [atom.kind for atom in x.axes[-1]] != ["k"]:
        return None
    if axis not in (-1, len(x.axes) - 1):
        raise context.refuse(node, f"be over the last axis, the keys, not over axis {axis}")
    return x.of(Probabilities(node.label, x.expression))


def _nans(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    """Of what never is NaN."""
    x = inputs[0]
    if not isinstance(bare(x)[0].expression, Probabilities):
        return None
    return x.of(NotNumbers(node.label, x.expression))


def _where(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    """A softmax that is 0 where it is NaN, which it never is; scores where keys are hidden."""
    condition, chosen, other = inputs
    if isinstance(condition, Symbol):
        if isinstance(condition.expression, NotNumbers) and isinstance(other, Symbol) and (
                other.expression is condition.expression.x):
            return other
        return None
    if not isinstance(condition, np.ndarray):
        return None
    x, known, where = ((chosen, other, ~condition.astype(bool)) if isinstance(chosen, Symbol)
                       else (other, chosen, condition.astype(bool)))
    if not isinstance(x, Symbol) or not isinstance(known, np.ndarray):
        return None
    x, _ = bare(x)
    if not isinstance(function_of(x.expression)[0], (Scores, Masked)):
        return None
    return masked(context, node, x, np.where(where, np.float64(known), 0.0))


RULES = {**dict.fromkeys(_UNARY, _unary), **dict.fromkeys(_FUNCTIONS, _binary),
         **dict.fromkeys(_LIMITS, _limited), "ReduceMean": _reduced_mean,
         "LayerNormalization": _layer_norm, "Softmax": _softmax, "IsNaN": _nans, "Where": _where}
