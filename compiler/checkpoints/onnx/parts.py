"""Parts of a description out of what a graph computes, with their weights read: ``Parts``."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Attention, Block, FeedForward, Linear, Norm
from compiler.checkpoints.onnx.expressions import Dense, Normed
from compiler.checkpoints.onnx.layers import AttentionParts, Layer

__all__ = ["Parts", "floats"]

_NEAR = 1e-5


def floats(values: np.ndarray) -> np.ndarray:
    """Contiguous, in fp32."""
    return np.ascontiguousarray(values, np.float32)


@dataclass(frozen=True)
class Parts:
    """Of the file ``path``; ``width`` of its layers."""

    path: Path
    width: int

    def check(self, layer: Layer) -> None:
        """Sizes that fit one another and finite rows, without reading a matrix;
        ``CheckpointError``."""
        attention, forward, width = layer.attention, layer.feed_forward, self.width
        rows, hidden = attention.query.weight.shape[0], forward.up.weight.shape[0]
        for own, shape in (
                (attention.query, (rows, width)), (attention.key, (rows, width)),
                (attention.value, (rows, width)), (attention.output, (width, rows)),
                (forward.up, (hidden, width)), (forward.down, (width, hidden))):
            if own.weight.shape != shape:
                raise CheckpointError(f"{self.path}: {own.label} must multiply by {shape}, outputs "
                                      f"× inputs, not by {own.weight.shape}")
            self._row(own.label, own.bias, shape[0])
        if rows % attention.heads:
            raise CheckpointError(f"{self.path}: {attention.query.label} must have outputs for "
                                  f"each of {attention.heads} heads, not {rows}")
        for norm in (layer.attention_norm, layer.feed_forward_norm):
            self.norm(norm)

    def _row(self, label: str, values: np.ndarray | None, size: int) -> np.ndarray | None:
        """``size`` finite values, if there are any."""
        if values is None:
            return None
        if values.size != size or not np.isfinite(values).all():
            raise CheckpointError(f"{self.path}: {label} must have {size} finite values beside its "
                                  "matrix or its mean")
        return floats(values.reshape(-1))

    def linear(self, layer: Dense) -> Linear:
        return Linear(floats(layer.weight.make()),
                      self._row(layer.label, layer.bias, layer.weight.shape[0]))

    def norm(self, norm: Normed | None, width: int = 0) -> Norm | None:
        """A LayerNorm has a shift, of zeros if need be, an RMSNorm none."""
        if norm is None:
            return None
        size = width or self.width
        if not 0 < norm.eps < np.inf:
            raise CheckpointError(f"{self.path}: {norm.label} must add a number above 0 to the "
                                  f"variance, not {norm.eps}")
        gain, shift = (self._row(norm.label, own, size) for own in (norm.gain, norm.shift))
        if shift is None and norm.centred:
            shift = np.zeros(size, np.float32)
        if not norm.centred and shift is not None:
            raise CheckpointError(f"{self.path}: {norm.label} must subtract the mean where it adds "
                                  "a shift")
        return Norm(np.ones(size, np.float32) if gain is None else gain, shift, norm.eps)

    def attention(self, own: AttentionParts) -> Attention:
        size = own.query.weight.shape[0] // own.heads
        scale = None if abs(own.factor * size ** 0.5 - 1) < _NEAR else own.factor
        query, key, value, output = map(self.linear, (own.query, own.key, own.value, own.output))
        if query.bias is not None and key.bias is None:
            key = replace(key, bias=np.zeros(len(key.weight), np.float32))
        return Attention(query, key, value, output, own.heads, own.heads, causal=own.causal,
                         scale=scale)

    def block(self, layer: Layer) -> Block:
        forward = layer.feed_forward
        return Block(self.attention(layer.attention), self.norm(layer.attention_norm),
                     FeedForward(self.linear(forward.up), self.linear(forward.down),
                                 forward.activation),
                     self.norm(layer.feed_forward_norm), layer.pre_norm)
