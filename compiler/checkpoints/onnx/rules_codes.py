"""Values in 8 bits: quantised and dequantised, by scales that are known or found at run time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import (
    Code,
    Coded,
    Codes,
    Dense,
    Expression,
    Lookup,
    Weight,
)
from compiler.checkpoints.onnx.format import Node
from compiler.checkpoints.onnx.pooled import pooled
from compiler.checkpoints.onnx.rules_linear import RULES as LINEAR
from compiler.checkpoints.onnx.rules_linear import dense
from compiler.checkpoints.onnx.symbols import Probe, Symbol, atoms
from compiler.checkpoints.onnx.tensor import FLOATS

__all__ = ["KNOWN_RULES", "RULES", "WEIGHT_RULES"]

_BYTES = {"i1": (-128, 127), "u1": (0, 255)}


@dataclass(frozen=True, eq=False)
class IntegerProduct(Expression):
    """Of codes that are found at run time with those of a matrix, before both have their scales."""

    x: Symbol
    weight: Weight
    code: Code


@dataclass(frozen=True, eq=False)
class RuntimeScale(Expression):
    """That of the codes of x, times what is known."""

    code: Code
    factor: np.ndarray


@dataclass(frozen=True, eq=False)
class RuntimeZero(Expression):
    """The zero point of the codes of x."""

    code: Code


def _code(context: Context, node: Node, scale: Any, zero: Any, axis: int, rank: int,
          size: int) -> Code:
    """Scale and zero point as they stand beside a value of so many axes."""
    if not isinstance(scale, np.ndarray) or (zero is not None and not isinstance(
            zero, np.ndarray)):
        raise context.refuse(node, "have a scale and a zero point that are known")
    if zero is not None and (zero.dtype.str[1:] not in (*_BYTES, "i4") or zero.size != scale.size):
        raise context.refuse(node, f"have a zero point of 8 bits for each scale, not {zero.dtype}")
    if not scale.size or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise context.refuse(node, "have scales above 0")
    shape = [1] * rank
    if scale.size > 1:
        if scale.size != size:
            raise context.refuse(node, f"have 1 or {size} scales, not {scale.size}: blocks of a "
                                 "tensor are not supported")
        shape[axis] = scale.size
    none = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    return Code(scale.astype(np.float32).reshape(shape), none.reshape(shape), node.label)


def _scalar(context: Context, node: Node, inputs: list[Any]) -> tuple[Code, np.dtype]:
    scale, zero = [*inputs[1:], None][:2]
    if isinstance(scale, np.ndarray) and scale.size != 1:
        raise context.refuse(node, f"have one scale for what a layer reads, not {scale.size}")
    if zero is not None and isinstance(zero, np.ndarray) and zero.dtype.str[1:] not in _BYTES:
        raise context.refuse(node, f"store 8 bits, not {zero.dtype}")
    kind = zero.dtype if isinstance(zero, np.ndarray) else np.dtype(np.uint8)
    return _code(context, node, scale, zero, 0, 0, 1), kind


def _stored(code: Code, kind: np.dtype) -> Code:
    """With codes of −128 … 127: those without a sign are 128 less."""
    return replace(code, zero=code.zero - 128) if kind == np.uint8 else code


def _pooled(context: Context, x: Any) -> Symbol:
    return pooled(context, x) if isinstance(x, Probe) else x


def _quantised(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x = _pooled(context, inputs[0])
    code = _stored(*_scalar(context, node, inputs))
    return x.of(Codes(node.label, x.expression, code))


def _dequantised(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    x, expression = inputs[0], inputs[0].expression
    code = _stored(*_scalar(context, node, inputs)) if not isinstance(
        expression, Lookup) else None
    if isinstance(expression, Codes):
        own = expression.code
        if code is None or own.scale is None or code.scale is None or not np.array_equal(
                own.scale, code.scale) or (own.zero != code.zero).any():
            raise context.refuse(node, f"have the scale and zero point of {expression.label}")
        return x.of(Coded(node.label, expression.x, own))
    if isinstance(expression, Lookup) and expression.table.kind != "f":
        table = _matrix(context, node, [expression.table, *inputs[1:]])
        return x.of(replace(expression, table=table))
    raise context.refuse(node, f"read codes, not what {expression.label} gives")


def _dynamic(context: Context, node: Node, inputs: list[Any]) -> list[Any]:
    """Codes, their scale, their zero point."""
    x = _pooled(context, inputs[0])
    code = Code(None, np.zeros((), np.int64), node.label)
    return [x.of(Codes(node.label, x.expression, code)),
            Symbol(RuntimeScale(node.label, code, np.ones(())), ()), Symbol(
                RuntimeZero(node.label, code), ())]


def _integer_product(context: Context, node: Node, inputs: list[Any]) -> Symbol:
    a, b, zero_a, zero_b = [*inputs, None, None][:4]
    codes = a.expression if isinstance(a, Symbol) else None
    zero = zero_a.expression if isinstance(zero_a, Symbol) else None
    if not (isinstance(codes, Codes) and isinstance(b, Weight) and isinstance(zero, RuntimeZero)
            and zero.code is codes.code and b.kind in "iu"):
        raise context.refuse(node, "multiply what DynamicQuantizeLinear gives by a matrix of "
                             "the file")
    if zero_b is not None and not isinstance(zero_b, np.ndarray):
        raise context.refuse(node, "have a known zero point of its matrix")
    columns = b.shape[1]
    none = np.zeros((), np.int64) if zero_b is None else zero_b.astype(np.int64)
    if none.size not in (1, columns):
        raise context.refuse(node, f"have 1 or {columns} zero points, not {none.size}")
    none = none.reshape(1, -1)
    layer = Weight(b.shape, b.make, b.kind, Code(np.ones((1, 1), np.float32), none, node.label,
                                                 b.make))
    x = a.of(codes.x)
    if x.features != b.shape[0]:
        raise context.refuse(node, f"multiply the {b.shape[0]} features of a position, not "
                             f"{x.shape}")
    return Symbol(IntegerProduct(node.label, x, layer, codes.code),
                  (*x.axes[:-1], atoms(("f", columns))))


def _scaled(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    """Scales found at run time times those that are known, or an integer product times both."""
    a, b = inputs
    if isinstance(b, Symbol) and isinstance(b.expression, IntegerProduct):
        a, b = b, a
    if isinstance(b, Symbol) and isinstance(b.expression, RuntimeScale) and isinstance(
            a, np.ndarray):
        a, b = b, a
    if not isinstance(a, Symbol):
        return None
    expression = a.expression
    if isinstance(expression, RuntimeScale) and isinstance(b, np.ndarray):
        return a.of(replace(expression, factor=expression.factor * b.astype(np.float32)))
    scale = b.expression if isinstance(b, Symbol) else None
    if not isinstance(expression, IntegerProduct) or not isinstance(scale, RuntimeScale):
        return None
    if scale.code is not expression.code:
        raise context.refuse(node, f"have the scale of what {expression.label} multiplies")
    layer = expression.weight
    assert layer.code is not None
    if scale.factor.size not in (1, layer.shape[1]):
        raise context.refuse(node, f"have 1 or {layer.shape[1]} scales, not {scale.factor.size}")
    code = replace(layer.code, scale=np.float32(scale.factor).reshape(1, -1))
    found = dense(context, node, expression.x, _floats(layer, code))
    assert isinstance(found.expression, Dense)
    return found.of(replace(found.expression, code=scale.code))


def _passed(context: Context, node: Node, inputs: list[Any]) -> Symbol | None:
    x = inputs[0]
    if isinstance(x.expression, IntegerProduct) and node.attributes.get("to") in FLOATS:
        return x
    return None


def _quantised_product(context: Context, node: Node, inputs: list[Any]) -> Any:
    """QLinearMatMul: codes of a product of what both codes stand for."""
    if len(inputs) != 8:
        raise context.refuse(node, f"have 8 inputs, not {len(inputs)}")
    found: list[Any] = []
    for own in (inputs[0:3], inputs[3:6]):
        if isinstance(own[0], Weight):
            step = replace(node, attributes={"axis": 1})
            found.append(_matrix(context, step, own))
        elif isinstance(own[0], Symbol):
            found.append(_dequantised(context, node, own))
        else:
            raise context.refuse(node, "multiply what the graph computes")
    product = LINEAR["MatMul"](context, node, found)
    if product is None:
        raise context.refuse(node, "multiply what the graph computes")
    return _quantised(context, node, [product, *inputs[6:8]])


RULES = {"QuantizeLinear": _quantised, "DequantizeLinear": _dequantised,
         "DynamicQuantizeLinear": _dynamic, "MatMulInteger": _integer_product,
         "QLinearMatMul": _quantised_product}
BEFORE = {"Mul": _scaled, "Cast": _passed}


# Of matrices in the file

def _floats(weight: Weight, code: Code) -> Weight:
    """What codes stand for; those of 8 bits without a sign become 128 less, and so does zero."""
    codes, unsigned = weight.make, weight.kind == "u"
    assert code.scale is not None
    scale, zero = code.scale, code.zero

    def make() -> np.ndarray:
        values = codes().astype(np.float32)
        if zero.any():
            values -= zero.astype(np.float32)
        values *= scale
        return values

    stored = (lambda: (codes().astype(np.int16) - 128).astype(np.int8)) if unsigned else codes
    return Weight(weight.shape, make, "f",
                  replace(code, zero=zero - 128 if unsigned else zero, codes=stored))


def _matrix(context: Context, node: Node, inputs: list[Any]) -> Weight:
    """DequantizeLinear of a matrix."""
    weight, scale, zero = [*inputs, None][:3]
    if weight.kind not in "iu" or node.attributes.get("block_size"):
        raise context.refuse(node, f"read codes of 8 bits, not {weight.kind}")
    axis = range(2)[node.attributes.get("axis", 1)]
    return _floats(weight, _code(context, node, scale, zero, axis, 2, weight.shape[axis]))


def _converted(context: Context, node: Node, inputs: list[Any]) -> Weight | None:
    """Whole numbers as such: codes of scale 1, until one is multiplied in."""
    weight = inputs[0]
    if weight.kind == "f" or node.attributes.get("to") not in FLOATS:
        return None
    one = np.ones((1, 1), np.float32)
    return _floats(weight, Code(one, np.zeros((1, 1), np.int64), node.label))


def _times(context: Context, node: Node, inputs: list[Any]) -> Weight | None:
    """A matrix times scales of its rows or columns."""
    weight, other = inputs if isinstance(inputs[0], Weight) else inputs[::-1]
    if not isinstance(other, (np.ndarray, Weight)) or weight.code is None:
        return None
    if weight.code.scale is None or weight.code.scale.size != 1:
        return None
    scale = np.asarray(other.make() if isinstance(other, Weight) else other, np.float32)
    if scale.size not in (1, *weight.shape) or np.broadcast_shapes(
            scale.shape, weight.shape) != weight.shape:
        return None
    scale = scale.reshape((1,) * (2 - scale.ndim) + scale.shape)
    codes = weight.make

    def make() -> np.ndarray:
        values = codes()  # an array of its own: of codes
        values *= scale
        return values

    return replace(weight, make=make,
                   code=replace(weight.code, scale=scale, label=node.label))


WEIGHT_RULES = {"DequantizeLinear": _matrix, "Cast": _converted, "Mul": _times}


# Of what is known

def _known(context: Context, node: Node, inputs: list[Any]) -> np.ndarray:
    x, scale, zero = [*inputs, None][:3]
    code = _code(context, node, scale, zero, range(x.ndim)[node.attributes.get("axis", 1)]
                 if x.ndim > 1 else 0, x.ndim, x.size if x.ndim == 1 else 0)
    return ((x.astype(np.int64) - code.zero) * np.float64(code.scale)).astype(np.float32)


def _known_codes(context: Context, node: Node, inputs: list[Any]) -> np.ndarray:
    code, kind = _scalar(context, node, inputs)
    low, high = _BYTES[kind.str[1:]]
    assert code.scale is not None
    return np.clip(np.rint(inputs[0] / code.scale) + code.zero, low, high).astype(kind)


KNOWN_RULES = {"DequantizeLinear": _known, "QuantizeLinear": _known_codes}
