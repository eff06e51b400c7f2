"""Train the vision transformer of ``compiler.checkpoints.digits``; writes digits_vit.npz.

1,347 handwritten digits, 60 epochs of Adam in numpy, no augmentation; 450 held-out images measure
it: 97.1, 98.2 and 98.2 % for seeds 1 to 3, of which the second is the committed one. The gradients
are written out: each function gives its result and what takes a gradient back through it. Half a
minute:

    python -m tools.train.train_digits
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from compiler.checkpoints.digits import (
    CLASSES,
    HEADS,
    HELD_OUT,
    HIDDEN,
    LAYERS,
    NORM_EPS,
    PATCH_SIZE,
    PATCHES,
    WEIGHTS,
    WIDTH,
    images,
    patches,
)
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.reference import softmax
from gen.cli import Parser, piped
from tools.train.training import Adam, join, split

BATCH = 64
RATE = 4e-3
DECAY = 0.5
POSITION_STD = 0.5
Weights = dict[str, np.ndarray]
Back = Callable[[np.ndarray], np.ndarray]


def initial(rng: np.random.Generator) -> Weights:
    """Matrices of variance 1 / (3 · inputs), outputs × inputs; gains 1, biases and shifts 0."""
    weights: Weights = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        weights[f"{name}.weight"] = rng.normal(0, (3 * inputs) ** -0.5, (outputs, inputs))
        weights[f"{name}.bias"] = np.zeros(outputs)

    def norm(name: str) -> None:
        weights[f"{name}.gain"], weights[f"{name}.shift"] = np.ones(WIDTH), np.zeros(WIDTH)

    linear("patch", WIDTH, PATCH_SIZE)
    weights["positions"] = rng.normal(0, POSITION_STD, (PATCHES, WIDTH))
    for index in range(LAYERS):
        norm(f"{index}.attention_norm")
        for name in ("query", "key", "value", "output"):
            linear(f"{index}.{name}", WIDTH, WIDTH)
        norm(f"{index}.feed_forward_norm")
        linear(f"{index}.up", HIDDEN, WIDTH)
        linear(f"{index}.down", WIDTH, HIDDEN)
    norm("final_norm")
    linear("head", CLASSES, WIDTH)
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


class Tape:
    """Functions of ``weights`` on batch × T × width; going back fills ``gradients``."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
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
        gain = self.weights[f"{name}.gain"]
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True)
                            + np.float32(NORM_EPS))
        unit = centred * scale

        def back(d: np.ndarray) -> np.ndarray:
            self.gradients[f"{name}.gain"] = (d * unit).sum(axis=(0, 1))
            self.gradients[f"{name}.shift"] = d.sum(axis=(0, 1))
            d = d * gain
            return scale * (d - d.mean(axis=-1, keepdims=True)
                            - unit * (d * unit).mean(axis=-1, keepdims=True))

        return unit * gain + self.weights[f"{name}.shift"], back

    def attention(self, index: int, x: np.ndarray) -> tuple[np.ndarray, Back]:
        parts = [self.linear(f"{index}.{name}", x) for name in ("query", "key", "value")]
        q, k, v = (split(y, HEADS) for y, _ in parts)
        scale = np.float32(q.shape[-1] ** -0.5)
        p = softmax(q @ k.swapaxes(2, 3) * scale)
        y, back_output = self.linear(f"{index}.output", join(p @ v))

        def back(d: np.ndarray) -> np.ndarray:
            d_o = split(back_output(d), HEADS)
            d_p = d_o @ v.swapaxes(2, 3)
            d_s = p * (d_p - (d_p * p).sum(axis=-1, keepdims=True)) * scale
            inner = (d_s @ k, d_s.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ d_o)
            q_part, k_part, v_part = (step(join(part))
                                      for (_, step), part in zip(parts, inner, strict=True))
            return q_part + k_part + v_part

        return y, back

    def feed_forward(self, index: int, x: np.ndarray) -> tuple[np.ndarray, Back]:
        up, back_up = self.linear(f"{index}.up", x)
        y, slope = gelu(up)
        down, back_down = self.linear(f"{index}.down", y)
        return down, lambda d: back_up(back_down(d) * slope)

    def residual(self, function: Callable, index: int, name: str, x: np.ndarray
                 ) -> tuple[np.ndarray, Back]:
        y, back_norm = self.norm(f"{index}.{name}_norm", x)
        y, back_function = function(index, y)
        return x + y, lambda d: d + back_norm(back_function(d))

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], None]]:
        """batch × CLASSES of batch × T × PATCH_SIZE; the way back ends in ``gradients``."""
        x, back_patch = self.linear("patch", x)
        x = x + self.weights["positions"]
        steps = []
        for index in range(LAYERS):
            for function, name in ((self.attention, "attention"),
                                   (self.feed_forward, "feed_forward")):
                x, step = self.residual(function, index, name, x)
                steps.append(step)
        x, back_norm = self.norm("final_norm", x)
        y, back_head = self.linear("head", x.mean(axis=1))

        def back(d: np.ndarray) -> None:
            d = np.repeat(back_head(d)[:, None] / np.float32(PATCHES), PATCHES, axis=1)
            d = back_norm(d)
            for step in reversed(steps):
                d = step(d)
            self.gradients["positions"] = d.sum(axis=0)
            back_patch(d)

        return y, back


def gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x Φ(x) and its slope; Φ within 10⁻⁷ (Abramowitz and Stegun, 7.1.26)."""
    density = np.exp(-np.square(x) / 2)
    t = 1 / (1 + np.float32(0.3275911 * math.sqrt(0.5)) * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (
        1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * density / 2
    cdf = np.where(x < 0, tail, 1 - tail)
    return x * cdf, cdf + x * density * np.float32(1 / math.sqrt(2 * math.pi))


def step(weights: Weights, x: np.ndarray, digits: np.ndarray) -> tuple[float, Weights]:
    """Mean cross-entropy of a batch and its gradients."""
    tape = Tape(weights)
    logits, back = tape.logits(x)
    chance = softmax(logits)
    rows = np.arange(len(digits))
    loss = -np.log(chance[rows, digits]).mean()
    chance[rows, digits] -= 1
    back(chance / len(digits))
    return float(loss), tape.gradients


def accuracy(weights: Weights, x: np.ndarray, digits: np.ndarray) -> float:
    return float((Tape(weights).logits(x)[0].argmax(axis=1) == digits).mean())


def train(x: np.ndarray, digits: np.ndarray, epochs: int, seed: int) -> Weights:
    """Adam, its rate warmed up for two epochs, then falling as a cosine; prints the progress."""
    rng = np.random.default_rng(seed)
    weights = initial(rng)
    adam = Adam(weights, {name: DECAY for name in weights if name.endswith(".weight")})
    steps = len(x) // BATCH
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        losses = []
        for index in range(steps):
            chosen = order[index * BATCH:(index + 1) * BATCH]
            loss, gradients = step(weights, x[chosen], digits[chosen])
            done = (epoch + index / steps) / epochs
            warm = min(1.0, (epoch * steps + index + 1) / (2 * steps))
            adam.step(gradients, RATE * warm * (1 + math.cos(math.pi * done)) / 2)
            losses.append(loss)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    return weights


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.train.train_digits",
                    description=__doc__.splitlines()[0],
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="times through the images")
    parser.add_argument("--seed", type=int, default=2, help="of weights and order")
    parser.add_argument("-o", "--output", type=Path, default=WEIGHTS, help="file to write")
    options = parser.parse_args(arguments)
    try:
        pixels, digits = images()
    except ModelUnavailable as error:
        parser.error(str(error))
    x = patches(pixels)
    weights = train(x[:-HELD_OUT], digits[:-HELD_OUT], options.epochs, options.seed)
    print(f"accuracy on {HELD_OUT} held-out images: "
          f"{accuracy(weights, x[-HELD_OUT:], digits[-HELD_OUT:]):.4f}")
    np.savez_compressed(options.output, **cast(Any, weights))
    return 0


if __name__ == "__main__":
    sys.exit(piped(main))
