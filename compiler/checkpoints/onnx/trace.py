"""A graph walked once, node by node: known values as they are, what is computed as expressions."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, finite
from compiler.checkpoints.onnx import rules_codes, rules_items, rules_linear, rules_shape
from compiler.checkpoints.onnx.concrete import OPERATORS, items_made
from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import Codes, Weight
from compiler.checkpoints.onnx.format import Model, Node
from compiler.checkpoints.onnx.symbols import Probe, Symbol
from compiler.checkpoints.onnx.tensor import BFLOAT16, Tensor
from compiler.checkpoints.settings import shown

__all__ = ["SUPPORTED", "traced"]

Rule = Callable[[Context, Node, list[Any]], Any]
_POSITIONS, _MOST_POSITIONS = 6, 4096
_ITEMS, _BYTES_OF_ONE = 1 << 19, 16  # known values of any file, and of so many bytes of it
_RULES: dict[str, Rule] = {**rules_items.RULES, **rules_linear.RULES, **rules_shape.RULES,
                           **rules_codes.RULES}
_WEIGHTS: dict[str, tuple[Rule, ...]] = {
    op: tuple(rules[op] for rules in (rules_codes.WEIGHT_RULES, rules_shape.WEIGHT_RULES)
              if op in rules)
    for op in (*rules_codes.WEIGHT_RULES, *rules_shape.WEIGHT_RULES)}
SUPPORTED = tuple(sorted({*OPERATORS, *_RULES, *_WEIGHTS, "Constant"}))
"""Names of operators."""
_OF_PROBES = (*rules_linear.RULES, "QuantizeLinear", "DynamicQuantizeLinear")
_PASSED = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
_FAULTS = (ValueError, IndexError, TypeError, KeyError, OverflowError, ArithmeticError,
           AttributeError, MemoryError)


def traced(model: Model, sequences: int) -> tuple[Context, dict[str, Any]]:
    """What each output is, of so many sequences unless the file fixes how many; inputs, nodes and
    tensors that it cannot be are refused."""
    context = _context(model, sequences)
    values: dict[str, Any] = dict(_inputs(context, model))
    for name, tensor in model.tensors.items():
        values[name] = _stored(context, tensor)
    left, known = _last_uses(model), set(values)
    held = sum(own.size for own in values.values() if isinstance(own, np.ndarray))
    for number, node in enumerate(model.nodes):
        inputs = []
        for name in node.inputs:
            if name and name not in values:
                raise context.refuse(node, f"read what an earlier node gives, not {shown(name)}")
            inputs.append(values[name] if name else None)
        for name, value in zip(node.outputs, _run(context, node, inputs), strict=False):
            if name in known:
                raise context.refuse(node, f"give {shown(name)}, which is there already, "
                                     "another name")
            if name:
                values[name] = value
                known.add(name)
                held += np.size(value) if isinstance(value, np.ndarray) else 0
        for name in left.get(number, ()):
            value = values.pop(name, None)
            held -= np.size(value) if isinstance(value, np.ndarray) else 0
        if held > context.most:
            raise context.refuse(node, f"leave at most {context.most} known items, not {held}")
    for port in model.outputs:
        if port.name not in values:
            raise CheckpointError(f"{model.path}: output {shown(port.name)} must be what a node "
                                  "gives")
    return context, {port.name: values[port.name] for port in model.outputs}


def _last_uses(model: Model) -> dict[int, list[str]]:
    """Of each node the values that none after it reads."""
    kept, last = {port.name for port in model.outputs}, dict[str, int]()
    for number, node in enumerate(model.nodes):
        last |= dict.fromkeys((*node.inputs, *node.outputs), number)
    found: dict[int, list[str]] = {}
    for name, number in last.items():
        if name not in kept:
            found.setdefault(number, []).append(name)
    return found


def _stored(context: Context, tensor: Tensor) -> Any:
    """A matrix that is read later, or values."""
    kind = "f" if tensor.kind == BFLOAT16 else tensor.dtype.kind
    if len(tensor.shape) == 2 and (
            kind == "f" or (tensor.dtype.itemsize == 1 and kind in "iu")):
        return Weight(tensor.shape, lambda: _values(tensor), kind)
    if tensor.size > context.most:
        raise CheckpointError(f"{tensor.path}: tensor {tensor.name} must be a matrix or have at "
                              f"most {context.most} items, not {tensor.shape}")
    return _values(tensor)


def _values(tensor: Tensor) -> np.ndarray:
    """As numpy computes with them; what is not finite is refused in matrices."""
    values = tensor.load()
    if values.dtype.kind not in "fV":
        return values
    with np.errstate(over="ignore"):
        values = values.astype(np.float32, copy=False)
    return finite(tensor.path, tensor.name, values) if values.ndim == 2 else values


# Inputs

def _context(model: Model, sequences: int) -> Context:
    version = model.versions.get("", 0)
    if not 7 <= version <= 30:
        raise CheckpointError(f"{model.path}: the set of operators must be of version 7 to 30, "
                              f"not {version}")
    if not model.inputs:
        raise CheckpointError(f"{model.path} must have inputs, token ids among them")
    positions = _POSITIONS
    for port in model.inputs:
        if port.shape is None or len(port.shape) != 2 or port.kind not in (6, 7):
            shape = "no shape" if port.shape is None else tuple(
                "any" if size is None else size for size in port.shape)
            raise CheckpointError(f"{model.path}: input {shown(port.name)} must be whole numbers "
                                  f"of sequences × positions, not type {port.kind} of {shape}")
        sequences = port.shape[0] or sequences
        positions = port.shape[1] or positions
    most = _ITEMS + model.path.stat().st_size // _BYTES_OF_ONE
    if positions < 4 or positions > _MOST_POSITIONS or sequences * positions > most:
        raise CheckpointError(f"{model.path}: inputs must have from 4 to {_MOST_POSITIONS} "
                              f"positions, {most} in all, not {sequences} × {positions}")
    return Context(model.path, version, sequences, positions, most)


def _inputs(context: Context, model: Model) -> Iterable[tuple[str, np.ndarray]]:
    """A sample of each input, by what table its numbers are looked up in."""
    rows = {port.name: _table(model, port.name) for port in model.inputs}
    words = max((name for name in rows), key=lambda name: rows[name])
    if not rows[words]:
        raise CheckpointError(f"{context.path} must look token ids up in a table of the file: only "
                              "encoders of text are supported")
    for port in model.inputs:
        if port.name == words:
            sample = context.ids(rows[words])
        elif not rows[port.name]:
            sample = context.mask
        else:
            # Segments have few kinds; a position has a row of its own.
            sample = context.kinds if rows[port.name] < context.positions + 2 else context.places
        yield port.name, sample.astype(np.int32 if port.kind == 6 else np.int64)


def _table(model: Model, name: str) -> int:
    """Rows of the table that input ``name`` is looked up in; 0: of none."""
    names = {name}
    matrices = {own.name: own.shape[0] for own in model.tensors.values() if len(own.shape) == 2}
    for node in model.nodes:
        if node.op in _PASSED and node.inputs and node.inputs[0] in names:
            names |= set(node.outputs[:1])
        elif node.inputs and node.inputs[0] in matrices and (
                node.op in ("DequantizeLinear", "Cast", "Mul", "Identity")):
            matrices[node.outputs[0]] = matrices[node.inputs[0]]
        elif node.op == "Gather" and len(node.inputs) > 1 and node.inputs[1] in names and (
                node.inputs[0] in matrices):
            return matrices[node.inputs[0]]
    return 0


# Nodes

def _run(context: Context, node: Node, inputs: list[Any]) -> list[Any]:
    if node.domain or node.op not in SUPPORTED:
        raise CheckpointError(f"{context.path}: {node.label} is not supported: operators must be "
                              f"those of docs/models.md, as {_nearest(node.op)}")
    try:
        with np.errstate(all="ignore"):
            found = _outputs(context, node, inputs)
    except CheckpointError:
        raise
    except _FAULTS as error:
        reason = shown(str(error))
        raise context.refuse(node, f"be what its operator allows: {reason}") from error
    return found if isinstance(found, list) else [found]


def _nearest(op: str) -> str:
    """What stands for an operator in graphs that are not fused, or what encoders have."""
    known = {"Attention": "MatMul and Softmax", "QAttention": "MatMulInteger and Softmax",
             "SkipLayerNormalization": "Add and LayerNormalization",
             "EmbedLayerNormalization": "Gather, Add and LayerNormalization",
             "BiasGelu": "Add and Gelu", "FastGelu": "Gelu", "QGemm": "QLinearMatMul",
             "QLinearAdd": "DequantizeLinear, Add and QuantizeLinear",
             "DynamicQuantizeMatMul": "DynamicQuantizeLinear and MatMulInteger"}
    return known.get(op, "MatMul, Add, LayerNormalization, Erf, Softmax, Gather")


def _outputs(context: Context, node: Node, inputs: list[Any]) -> Any:
    if node.op == "Constant":
        return _constant(context, node)
    if any(isinstance(own, (Symbol, Probe)) for own in inputs):
        return _symbolic(context, node, inputs)
    if any(isinstance(own, Weight) for own in inputs):
        for rule in _WEIGHTS.get(node.op, ()):
            found = rule(context, node, inputs)
            if found is not None:
                return found
        raise context.refuse(node, "do with a matrix of the file what a layer or a table does")
    return _known(context, node, inputs)


def _constant(context: Context, node: Node) -> Any:
    given = node.attributes
    for name in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        value = given.get(name)
        if isinstance(value, Tensor):
            return _stored(context, value)
        if value is not None:
            return np.array(value, np.int64 if "int" in name else np.float32)
    raise context.refuse(node, "hold a tensor or numbers")


def _known(context: Context, node: Node, inputs: list[Any]) -> Any:
    if node.op == "Shape":
        return rules_shape.RULES["Shape"](context, node, inputs)
    if node.op == "Split":
        sizes = inputs[1] if len(inputs) > 1 else node.attributes.get("split")
        parts = len(node.outputs) if sizes is None else np.cumsum(sizes)[:-1]
        return np.split(inputs[0], parts, axis=node.attributes.get("axis", 0))
    if node.op in rules_codes.KNOWN_RULES:
        return rules_codes.KNOWN_RULES[node.op](context, node, inputs)
    if node.op in OPERATORS:
        return _computed(context, node, inputs)
    if node.op == "Dropout":
        return inputs[0]
    raise context.refuse(node, "read what the layers compute")


def _computed(context: Context, node: Node, inputs: list[Any]) -> np.ndarray:
    made = items_made(node.op, node.attributes, inputs)
    if made > context.most:
        raise context.refuse(node, f"give at most {context.most} known items, not {made}")
    return OPERATORS[node.op](node.attributes, inputs)


def _symbolic(context: Context, node: Node, inputs: list[Any]) -> Any:
    early = rules_codes.BEFORE.get(node.op)
    if early is not None:
        found = early(context, node, inputs)
        if found is not None:
            return found
    rule = _RULES.get(node.op)
    probed = any(isinstance(own, Probe) for own in inputs)
    if rule is not None and (not probed or node.op in _OF_PROBES):
        found = rule(context, node, inputs)
        if found is not None:
            return found
    return _probed(context, node, inputs)


def _probed(context: Context, node: Node, inputs: list[Any]) -> Probe | np.ndarray:
    """What the operator makes of samples, where all are of one base."""
    probes = [context.probed(own, node.label) if isinstance(own, Symbol) else own
              for own in inputs]
    found = [own for own in probes if isinstance(own, Probe)]
    base = found[0].base
    if any(own.base.expression is not base.expression for own in found) or any(
            isinstance(own, Weight) for own in probes) or isinstance(base.expression, Codes):
        raise context.refuse(node, "have its place in an encoder's layer, which what it reads "
                             f"({', '.join(own.label for own in found)}) has not together")
    values = [own.value if isinstance(own, Probe) else own for own in probes]
    if node.op == "Shape":
        return np.array(values[0].shape, np.int64)
    if node.op not in OPERATORS:
        raise context.refuse(node, "read rows of hidden states")
    return Probe(base, _computed(context, node, values), node.label)
