"""Which row is made of all positions, by what the graph makes of a sample."""

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Pooling
from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import Pooled
from compiler.checkpoints.onnx.symbols import Atom, Probe, Symbol

__all__ = ["pooled"]

_NEAR = 1e-5
_NAMES = "the first position, the mean of all that do not pad, either divided by its L2 norm"


def pooled(context: Context, probe: Probe) -> Symbol:
    """What ``probe`` is of its base; ``CheckpointError`` where it is none of these."""
    rows = probe.base
    width = rows.features
    position = (Atom("s", context.positions),)
    if width is None or len(rows.axes) != 3 or rows.axes[1] != position:
        raise CheckpointError(f"{context.path}: {probe.label} must read the features of each "
                              f"position, not {rows.shape}")
    sample = context.samples[rows.expression]
    shape = sample.shape[0], width
    found = np.asarray(probe.value, np.float64)
    if found.size == shape[0] * width:
        for name, values in _candidates(context, sample).items():
            if np.allclose(found.reshape(shape), values, rtol=_NEAR, atol=_NEAR):
                axes = (rows.axes[0], (Atom("f", width),))
                return Symbol(Pooled(probe.label, rows.expression, name), axes)
    raise CheckpointError(f"{context.path}: {probe.label} must make of the rows of all positions "
                          f"{_NAMES}: other pooling is not supported")


def _candidates(context: Context, sample: np.ndarray) -> dict[Pooling, np.ndarray]:
    mask = context.mask[..., None]
    mean = (sample * mask).sum(axis=1) / mask.sum(axis=1)
    found: dict[Pooling, np.ndarray] = {"first": sample[:, 0], "mean": mean}

    def scaled(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    return found | {"first_l2": scaled(found["first"]), "mean_l2": scaled(mean)}
