"""Layers of the models that are trained here, each with the way back through it.

Each function gives its result and what takes a gradient back; going back fills ``gradients``.
"""

import math
from collections.abc import Callable

import numpy as np

from compiler.checkpoints.reference import softmax
from compiler.checkpoints.trained import Shape, Weights
from tools.train.training import join, split

__all__ = ["Back", "Tape", "initial_layers", "linear", "loss_of"]

Back = Callable[[np.ndarray], np.ndarray]


def initial_layers(shape: Shape, rng: np.random.Generator) -> Weights:
    """Matrices of variance 1 / (3 · inputs), outputs × inputs; gains 1, biases and shifts 0, of
    polynomial attention a bias of 1 and δ = 0.1."""
    weights: Weights = {}
    for index in range(shape.layers):
        weights |= _norm(f"{index}.attention_norm", shape.width)
        for name in ("query", "key", "value", "output"):
            weights |= linear(f"{index}.{name}", shape.width, shape.width, rng)
        weights |= _norm(f"{index}.feed_forward_norm", shape.width)
        weights |= linear(f"{index}.up", shape.hidden, shape.width, rng)
        weights |= linear(f"{index}.down", shape.width, shape.hidden, rng)
        if shape.degree is not None:
            weights[f"{index}.attention_bias"] = np.full(shape.heads, 1.0)
            weights[f"{index}.attention_delta"] = np.full(shape.heads, 0.1)
    return weights | _norm("final_norm", shape.width)


def linear(name: str, outputs: int, inputs: int, rng: np.random.Generator) -> Weights:
    """The weights of one linear layer, as ``initial_layers`` has them."""
    return {f"{name}.weight": rng.normal(0, (3 * inputs) ** -0.5, (outputs, inputs)),
            f"{name}.bias": np.zeros(outputs)}


def _norm(name: str, width: int) -> Weights:
    return {f"{name}.gain": np.ones(width), f"{name}.shift": np.zeros(width)}


class Tape:
    """Functions of ``weights`` on batch × T × width. ``learned``: bias and δ of polynomial
    attention have gradients, too."""

    def __init__(self, weights: Weights, shape: Shape, learned: bool = False) -> None:
        self.weights, self.shape, self._learned = weights, shape, learned
        self.gradients: Weights = {}

    def linear(self, name: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        weight = self.weights[f"{name}.weight"]

        def back(d: np.ndarray) -> np.ndarray:
            rows = d.reshape(-1, d.shape[-1])
            self.gradients[f"{name}.weight"] = rows.T @ x.reshape(-1, x.shape[-1])
            self.gradients[f"{name}.bias"] = rows.sum(axis=0)
            return d @ weight

        return x @ weight.T + self.weights[f"{name}.bias"], back

    def norm(self, name: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        """LayerNorm: centred rows over the root of their squares' mean, or over the mean of their
        magnitudes."""
        gain, eps, l1 = self.weights[f"{name}.gain"], self.shape.eps, self.shape.degree is not None
        centred = x - x.mean(axis=-1, keepdims=True)
        if l1:
            scale = 1 / (np.abs(centred).mean(axis=-1, keepdims=True) + np.float32(eps))
        else:
            scale = 1 / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(eps))
        unit = centred * scale

        def back(d: np.ndarray) -> np.ndarray:
            self.gradients[f"{name}.gain"] = (d * unit).sum(axis=(0, 1))
            self.gradients[f"{name}.shift"] = d.sum(axis=(0, 1))
            d = d * gain
            if l1:  # signs of a row need not add up to 0, as units do
                d = d - np.sign(centred) * (d * unit).mean(axis=-1, keepdims=True)
                return scale * (d - d.mean(axis=-1, keepdims=True))
            return scale * (d - d.mean(axis=-1, keepdims=True)
                            - unit * (d * unit).mean(axis=-1, keepdims=True))

        return unit * gain + self.weights[f"{name}.shift"], back

    def attention(self, index: int, x: np.ndarray) -> tuple[np.ndarray, Back]:
        parts = [self.linear(f"{index}.{name}", x) for name in ("query", "key", "value")]
        q, k, v = (split(y, self.shape.heads) for y, _ in parts)
        scale = np.float32(q.shape[-1] ** -0.5)
        kernel = self._softmax if self.shape.degree is None else self._polynomial
        p, back_kernel = kernel(index, q @ k.swapaxes(2, 3) * scale)
        y, back_output = self.linear(f"{index}.output", join(p @ v))

        def back(d: np.ndarray) -> np.ndarray:
            d_o = split(back_output(d), self.shape.heads)
            d_s = back_kernel(d_o @ v.swapaxes(2, 3)) * scale
            inner = (d_s @ k, d_s.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ d_o)
            q_part, k_part, v_part = (step(join(part))
                                      for (_, step), part in zip(parts, inner, strict=True))
            return q_part + k_part + v_part

        return y, back

    def _softmax(self, index: int, z: np.ndarray) -> tuple[np.ndarray, Back]:
        if self.shape.causal:
            z = np.where(_seen(z), z, np.float32(-np.inf))
        p = softmax(z)
        return p, lambda d: p * (d - (d * p).sum(axis=-1, keepdims=True))

    def _polynomial(self, index: int, z: np.ndarray) -> tuple[np.ndarray, Back]:
        """[ReLU(z + bias)]^degree + abs(δ) of what is seen, over its row's sum."""
        degree = self.shape.degree
        assert degree is not None, "the kernel of integer models"
        bias, delta = (self.weights[f"{index}.attention_{name}"][:, None, None]
                       for name in ("bias", "delta"))
        seen = _seen(z).astype(z.dtype) if self.shape.causal else np.ones_like(z[0, 0])
        rise = np.maximum(z + bias, 0) * seen
        slope = degree * rise ** (degree - 1) if degree > 1 else (rise > 0).astype(z.dtype)
        e = rise ** degree + np.abs(delta) * seen
        total = e.sum(axis=-1, keepdims=True)
        p = e / total

        def back(d: np.ndarray) -> np.ndarray:
            d_e = (d - (d * p).sum(axis=-1, keepdims=True)) / total * seen
            d_z = d_e * slope
            if self._learned:
                self.gradients[f"{index}.attention_bias"] = d_z.sum(axis=(0, 2, 3))
                self.gradients[f"{index}.attention_delta"] = (
                    d_e.sum(axis=(0, 2, 3)) * np.sign(delta[:, 0, 0]))
            return d_z

        return p, back

    def feed_forward(self, index: int, x: np.ndarray) -> tuple[np.ndarray, Back]:
        up, back_up = self.linear(f"{index}.up", x)
        y, slope = gelu(up) if self.shape.degree is None else (np.maximum(up, 0), up > 0)
        down, back_down = self.linear(f"{index}.down", y)
        return down, lambda d: back_up(back_down(d) * slope)

    def residual(self, function: Callable, index: int, name: str, x: np.ndarray
                 ) -> tuple[np.ndarray, Back]:
        y, back_norm = self.norm(f"{index}.{name}_norm", x)
        y, back_function = function(index, y)
        return x + y, lambda d: d + back_norm(back_function(d))

    def layers(self, x: np.ndarray) -> tuple[np.ndarray, Back]:
        """All layers and the norm after them."""
        steps = []
        for index in range(self.shape.layers):
            for function, name in ((self.attention, "attention"),
                                   (self.feed_forward, "feed_forward")):
                x, step = self.residual(function, index, name, x)
                steps.append(step)
        x, back_norm = self.norm("final_norm", x)

        def back(d: np.ndarray) -> np.ndarray:
            d = back_norm(d)
            for step in reversed(steps):
                d = step(d)
            return d

        return x, back


def _seen(z: np.ndarray) -> np.ndarray:
    """Which keys a causal query sees, T × T."""
    return np.tri(z.shape[-1], dtype=bool)


def gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x Φ(x) and its slope; Φ within 10⁻⁷ (Abramowitz and Stegun, 7.1.26)."""
    density = np.exp(-np.square(x) / 2)
    t = 1 / (1 + np.float32(0.3275911 * math.sqrt(0.5)) * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (
        1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * density / 2
    cdf = np.where(x < 0, tail, 1 - tail)
    return x * cdf, cdf + x * density * np.float32(1 / math.sqrt(2 * math.pi))


def loss_of(logits: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of rows of logits and its gradient, of their shape."""
    chance = softmax(logits).reshape(right.size, -1)
    rows = np.arange(right.size)
    loss = -np.log(chance[rows, right.ravel()]).mean()
    chance[rows, right.ravel()] -= 1
    return float(loss), (chance / right.size).reshape(logits.shape)
