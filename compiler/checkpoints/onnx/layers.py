"""The layers of an encoder in an expression of its hidden states, from the last to the first."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Activation
from compiler.checkpoints.functions import activate
from compiler.checkpoints.onnx.expressions import (
    Code,
    Dense,
    Expression,
    Masked,
    Mixed,
    Normed,
    Probabilities,
    Scores,
    Sum,
    function_of,
    multiple,
)

__all__ = ["AttentionParts", "FeedForwardParts", "Layer", "Layers", "activation_of", "layers_of"]

_NAMES: tuple[Activation, ...] = ("gelu", "gelu_tanh", "gelu_sigmoid", "relu", "relu_squared",
                                  "silu", "tanh")
_GRID = np.concatenate([np.linspace(-12, 12, 481), [-70.0, 70.0]])
_NEAR = 1e-4  # constants of 16 bits are so far from what they stand for


@dataclass(frozen=True, eq=False)
class AttentionParts:
    """``codes``: of queries, keys, probabilities and values."""

    query: Dense
    key: Dense
    value: Dense
    output: Dense
    heads: int
    factor: float
    causal: bool
    codes: tuple[Code | None, Code | None, Code | None, Code | None]


@dataclass(frozen=True, eq=False)
class FeedForwardParts:
    """As in ``description.FeedForward``."""

    up: Dense
    down: Dense
    activation: Activation


@dataclass(frozen=True, eq=False)
class Layer:
    """Norms as in ``description.Block``."""

    attention: AttentionParts
    attention_norm: Normed | None
    feed_forward: FeedForwardParts
    feed_forward_norm: Normed | None
    pre_norm: bool


@dataclass(frozen=True, eq=False)
class Layers:
    """``first``: what enters the first layer."""

    first: Expression
    layers: tuple[Layer, ...]
    final_norm: Normed | None


@dataclass(frozen=True, eq=False)
class _Step:
    """Attention or feed-forward, what it is added to, and the norm before or after it."""

    parts: AttentionParts | FeedForwardParts
    residual: Expression
    norm: Normed | None
    pre_norm: bool


def activation_of(path: Path, label: str, function: Callable) -> Activation:
    """The nearest of all; ``CheckpointError`` where it is none of them."""
    with np.errstate(all="ignore"):
        found = np.asarray(function(_GRID), np.float64)
        far = {name: float(np.max(abs(found - activate(name, _GRID)) / (abs(_GRID) + 1)))
               for name in _NAMES}
    best = min(_NAMES, key=lambda name: far[name])
    if not far[best] <= _NEAR:
        raise CheckpointError(f"{path}: what ends at {label} must be one of "
                              f"{', '.join(_NAMES)}: other activations are not supported")
    return best


def layers_of(path: Path, hidden: Expression) -> Layers:
    """Of the last hidden states; ``CheckpointError``."""
    steps: list[_Step] = []
    final, here = None, hidden
    step = _step(path, here)
    if step is None and isinstance(here, Normed):  # of layers with norms before them
        final, here = here, here.x
        step = _step(path, here)
    while step is not None:
        steps.append(step)
        here = step.residual
        step = _step(path, here)
    steps.reverse()
    found = []
    for attention, forward in zip(steps[::2], steps[1::2], strict=False):
        if not isinstance(attention.parts, AttentionParts) or not isinstance(
                forward.parts, FeedForwardParts) or attention.pre_norm != forward.pre_norm:
            raise CheckpointError(f"{path}: layers must be an attention and a feed-forward, in "
                                  f"this order, not as what ends at {_end(forward).label}")
        found.append(Layer(attention.parts, attention.norm, forward.parts, forward.norm,
                           forward.pre_norm))
    if not found or len(steps) % 2:
        raise CheckpointError(f"{path}: what ends at {hidden.label} must be layers of attention "
                              "and feed-forward, each added to what it reads")
    if final is not None and not found[-1].pre_norm:
        raise CheckpointError(f"{path}: what ends at {final.label} must be a layer: it has one "
                              "norm too many")
    return Layers(here, tuple(found), final)


def _end(step: _Step) -> Dense:
    return step.parts.output if isinstance(step.parts, AttentionParts) else step.parts.down


def _step(path: Path, here: Expression) -> _Step | None:
    """The last attention or feed-forward; ``None`` where ``here`` is none's result."""
    norm, added = (here, here.x) if isinstance(here, Normed) else (None, here)
    if not isinstance(added, Sum):
        return None
    for branch, residual in ((added.left, added.right), (added.right, added.left)):
        if not isinstance(branch, Dense):
            continue
        found = _branch(path, branch)
        if found is None:
            continue
        parts, read = found
        if read is residual and norm is not None:
            return _Step(parts, residual, norm, False)
        if norm is None and isinstance(read, Normed) and read.x is residual:
            return _Step(parts, residual, read, True)
        if norm is not None and isinstance(read, Normed) and read.x is residual:
            return None  # a norm after all layers
        raise CheckpointError(f"{path}: what ends at {branch.label} must be added to what it "
                              "reads, with a norm before or after it")
    return None


def _branch(path: Path, end: Dense
            ) -> tuple[AttentionParts | FeedForwardParts, Expression] | None:
    """What ends with this linear layer, and what it reads."""
    if isinstance(end.x, Mixed):
        parts = _attention(path, end, end.x)
        return parts, parts.query.x
    base, function = function_of(end.x)
    if not isinstance(base, Dense):
        return None
    kind = activation_of(path, end.x.label, function)
    return FeedForwardParts(base, end, kind), base.x


def _attention(path: Path, output: Dense, mixed: Mixed) -> AttentionParts:
    probabilities = mixed.probabilities
    assert isinstance(probabilities, Probabilities), "the rule of products has seen to it"
    factor, causal, here = 1.0, False, probabilities.scores
    while not isinstance(here, Scores):
        base, function = function_of(here)
        step = multiple(function)
        if isinstance(here, Masked):
            causal, here = causal or here.causal, here.x
        elif base is not here and step is not None:
            factor, here = factor * step, base
        else:
            raise CheckpointError(f"{path}: what {here.label} gives must be scores of queries and "
                                  "keys, times a number, and a mask")
    parts = {"queries": here.query, "keys": here.key, "values": mixed.value}
    for name, own in parts.items():
        if not isinstance(own, Dense) or own.x is not here.query.x:  # type: ignore[attr-defined]
            raise CheckpointError(f"{path}: {name} of {here.label} must be a linear layer of what "
                                  f"queries are one of, not what {own.label} gives")
    query, key, value = parts.values()
    assert isinstance(query, Dense) and isinstance(key, Dense) and isinstance(value, Dense)
    return AttentionParts(query, key, value, output, here.heads, factor * here.factor, causal,
                          (*here.codes, *mixed.codes))
