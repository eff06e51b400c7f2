"""Scales that an ONNX file gives for what its products read: ``load_scales``.

A code of 8 bits is one of −128 … 127; those without a sign are 128 less, which is exact. What a
product reads has no zero point then, or is refused by the name of the node that says it; or its
scale becomes that of codes without one that hold the same range, which have up to twice the step.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.onnx.expressions import Code, Dense
from compiler.checkpoints.onnx.models import Found, parsed
from compiler.checkpoints.scales import LARGEST, Scales

__all__ = ["load_scales"]

_LEAST, _MOST = -128, 127
_ROW = "--scales row takes those of each row at run time"


def load_scales(path: Path, symmetric: bool = False) -> Scales:
    """Those in file ``path`` for the operands of all products; ``CheckpointError`` where one has
    none, has none that is known before it runs, or codes that are no integers of 8 bits.
    ``symmetric``: of what has a zero point the scale without one; ``about`` says of how many."""
    found, codes = parsed(path), dict[str, np.ndarray]()
    turned = 0

    def known(label: str, place: str, code: Code | None) -> None:
        nonlocal turned
        own = _known(path, label, place, code)
        if own.zero.any():
            if not symmetric:
                raise _offset(path, own, place)
            turned += 1
        codes[place] = _symmetric(own)

    for place, layer in _linears(found):
        weights = _weights(path, layer)
        if weights is not None:
            codes[f"{place}.weight"] = weights
        known(layer.label, f"{place}.input", layer.code)
    for index, whole in enumerate(found.layers.layers):
        own = whole.attention
        query, key, _, value = own.codes
        for name, code in (("queries", query), ("keys", key), ("values", value)):
            known(own.output.label, f"blocks.{index}.attention.{name}", code)
    return Scales(codes, {"model": path.name, "symmetric": turned})


def _linears(found: Found) -> Iterator[tuple[str, Dense]]:
    """Every linear layer by its place in the description."""
    if found.first.projection is not None:
        yield "embedding.norm_projection", found.first.projection
    for index, layer in enumerate(found.layers.layers):
        attention, forward = layer.attention, layer.feed_forward
        for name in ("query", "key", "value", "output"):
            yield f"blocks.{index}.attention.{name}", getattr(attention, name)
        for name in ("up", "down"):
            yield f"blocks.{index}.feed_forward.{name}", getattr(forward, name)
    if found.ending.dense is not None:
        yield "transform.linear", found.ending.dense
    if found.ending.last is not None:
        yield "head", found.ending.last


def _known(path: Path, label: str, place: str, code: Code | None) -> Code:
    """One with a scale that is known."""
    if code is None:
        raise CheckpointError(f"{path}: {label} must read codes with a scale as {place}, not "
                              f"numbers: {_ROW}")
    if code.scale is None:
        raise CheckpointError(f"{path}: {code.label} must give a scale for {place} that is known "
                              f"before it runs: {_ROW}")
    return code


def _offset(path: Path, code: Code, place: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {code.label} must have the zero point 0 of codes with a sign, 128 of those "
        f"without, as {place}, not {int(code.zero.ravel()[0])} beside it: {_ROW}, python -m "
        "sim.quantise --symmetric makes scales without zero points")


def _symmetric(code: Code) -> np.ndarray:
    """The scale of codes without a zero point that hold what those of ``code`` do."""
    zero = int(code.zero.ravel()[0])
    furthest = max(_MOST - zero, zero - _LEAST)
    times = furthest / LARGEST if zero else 1.0
    return np.array([np.float64(np.float32(code.scale).ravel()[0]) * times], np.float32)


def _weights(path: Path, layer: Dense) -> np.ndarray | None:
    """One scale or one for each output, of codes with their zero points taken off."""
    code = layer.weight.code
    if code is None or code.scale is None:
        return None
    outputs = layer.weight.shape[0]
    if code.scale.size not in (1, outputs) or (code.scale.size > 1 and code.scale.shape[0] == 1):
        raise CheckpointError(f"{path}: {code.label} must have one scale, or one for each of "
                              f"{outputs} outputs, not {code.scale.size} of inputs: {_ROW}")
    if code.zero.any() and code.codes is not None:
        values = code.codes().astype(np.int16) - code.zero
        if values.min() < _LEAST or values.max() > _MOST:
            raise CheckpointError(
                f"{path}: {code.label} must have codes of {_LEAST} to {_MOST} beside its zero "
                f"points, not {values.min()} to {values.max()}: {_ROW}")
    return np.float32(code.scale).reshape(-1)
