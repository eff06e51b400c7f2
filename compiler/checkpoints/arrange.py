"""Tensors of checkpoints brought into the order and the scale that the description has."""

from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Norm, Rotary

__all__ = ["bucket", "copied", "halved", "sinusoids", "times"]


def bucket(distance: np.ndarray, buckets: int, furthest: int, both: bool) -> np.ndarray:
    """Which bias is that of a key ``distance`` positions after a query, as T5 has it: one for each
    near distance, then one for a range that grows; ``both``: half of them for what comes after."""
    behind = -distance
    first = np.zeros(distance.shape, int)
    if both:
        buckets //= 2
        first, behind = np.where(behind < 0, buckets, 0), abs(behind)
    behind = np.maximum(behind, 0)
    near = buckets // 2
    share = (np.log(np.maximum(behind, 1).astype(np.float32) / near)
             / np.float32(np.log(furthest / near)))
    far = near + (share * (buckets - near)).astype(int)
    return first + np.where(behind < near, behind, np.minimum(far, buckets - 1))


def sinusoids(positions: int, width: int) -> np.ndarray:
    """Sines of each position in the first half of its row, cosines in the second."""
    angles = np.arange(positions)[:, None] * 10000.0 ** (-2 * np.arange(width // 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def copied(view: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``view`` as an array of its own; zeros that take no memory stay so."""
    if not any(view.strides):
        return np.broadcast_to(np.float32(0), shape)
    return np.ascontiguousarray(view).reshape(shape)


def times(linear: Linear, factor: float) -> Linear:
    if factor == 1:
        return linear
    bias = None if linear.bias is None else linear.bias * np.float32(factor)
    return Linear(linear.weight * np.float32(factor), bias)


def halved(attention: Attention, rotated: int) -> Attention:
    """With what is rotated of each head in both its halves, the rest beside it as pairs of rate 0;
    scores are sums over the same items in another order."""
    rotary, size = attention.rotary, attention.head_size
    if not rotated or rotated == size:
        return attention
    order = _order(size, rotated, rotary is not None and rotary.interleaved)

    def rows(values: np.ndarray) -> np.ndarray:
        if not any(values.strides):
            return values
        return values.reshape(-1, size, *values.shape[1:])[:, order].reshape(values.shape)

    def linear(own: Linear) -> Linear:
        return Linear(rows(own.weight), None if own.bias is None else rows(own.bias))

    def norm(own: Norm | None) -> Norm | None:
        return own and replace(own, gain=rows(own.gain),
                               shift=None if own.shift is None else rows(own.shift))

    if rotary is not None:
        rates = (*rotary.of_pairs(rotated).tolist(), *[0.0] * ((size - rotated) // 2))
        rotary = Rotary(rotary.base, False, rates, rotary.factor)
    return replace(attention, query=linear(attention.query), key=linear(attention.key),
                   rotary=rotary, query_norm=norm(attention.query_norm),
                   key_norm=norm(attention.key_norm))


def _order(size: int, rotated: int, interleaved: bool) -> np.ndarray:
    items, half = np.arange(size), rotated // 2
    first, second = ((items[:rotated:2], items[1:rotated:2]) if interleaved
                     else (items[:half], items[half:rotated]))
    rest = items[rotated:]
    middle = len(rest) // 2
    return np.concatenate([first, rest[:middle], second, rest[middle:]])
