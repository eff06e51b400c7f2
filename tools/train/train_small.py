"""Train the small attention layer that the demo runs without network; writes small_head.npz.

Task: of a random sequence of 16 symbols, tell at each position the symbols one and two positions
before. Width 64, 4 heads of 16; embeddings and sinusoidal positions are fixed, the projections
and a linear readout are learned by Adam, in numpy. Takes some seconds:

    python -m tools.train.train_small
"""

from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.reference import softmax
from compiler.checkpoints.small import HEADS, SYMBOLS, WEIGHTS, WIDTH, embeddings, layer_input
from gen.cli import Parser, add_seed, integer
from tools.train.training import Adam, join, split

BATCH = 16
TOKENS = 32
LOOKBACK = (1, 2)


def initial(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of the three projections (out × in) with biases, and of the readouts."""
    weights = {}
    for name in ("query", "key", "value"):
        weights[name] = rng.normal(0, WIDTH ** -0.5, (WIDTH, WIDTH))
        weights[f"{name}_bias"] = np.zeros(WIDTH)
    weights["readout"] = rng.normal(0, WIDTH ** -0.5, (len(LOOKBACK) * SYMBOLS, WIDTH))
    return weights


def step(weights: dict[str, np.ndarray], x: np.ndarray, symbols: np.ndarray
         ) -> tuple[float, float, dict[str, np.ndarray]]:
    """Mean cross-entropy, accuracy and the gradients for one batch."""
    q, k, v = (split(x @ weights[n].T + weights[f"{n}_bias"], HEADS)
               for n in ("query", "key", "value"))
    scale = q.shape[-1] ** -0.5
    p = softmax(q @ k.swapaxes(2, 3) * scale)
    o = join(p @ v)
    logits = (o @ weights["readout"].T).reshape(*symbols.shape, len(LOOKBACK), SYMBOLS)
    chance = softmax(logits)
    wanted = np.stack([np.roll(symbols, back, axis=1) for back in LOOKBACK], axis=-1)
    valid = np.arange(symbols.shape[1])[None, :, None] >= np.array(LOOKBACK)
    count = valid.sum() * symbols.shape[0]
    picked = np.take_along_axis(chance, wanted[..., None], axis=-1)[..., 0]
    loss = -(np.log(picked) * valid).sum() / count
    accuracy = ((chance.argmax(axis=-1) == wanted) & valid).sum() / count

    d_logits = (chance - np.eye(SYMBOLS)[wanted]) * valid[..., None] / count
    d_logits = d_logits.reshape(*symbols.shape, -1)
    gradients = {"readout": np.einsum("bto,bti->oi", d_logits, o)}
    d_o = split(d_logits @ weights["readout"], HEADS)
    d_p = d_o @ v.swapaxes(2, 3)
    d_s = p * (d_p - (d_p * p).sum(axis=-1, keepdims=True)) * scale
    for name, d in (("query", d_s @ k), ("key", d_s.swapaxes(2, 3) @ q),
                    ("value", p.swapaxes(2, 3) @ d_o)):
        gradients[name] = np.einsum("bto,bti->oi", join(d), x)
        gradients[f"{name}_bias"] = join(d).sum(axis=(0, 1))
    return float(loss), float(accuracy), gradients


def train(steps: int, seed: int, rate: float = 3e-3) -> dict[str, np.ndarray]:
    """Adam for ``steps`` batches; prints the progress."""
    rng = np.random.default_rng(seed)
    weights = initial(rng)
    table = embeddings(rng)
    adam = Adam(weights)
    for index in range(1, steps + 1):
        symbols = rng.integers(0, SYMBOLS, (BATCH, TOKENS))
        loss, accuracy, gradients = step(weights, layer_input(table, symbols), symbols)
        adam.step(gradients, rate * min(1.0, 2 * (1 - index / steps)))
        if index % 500 == 0:
            print(f"step {index}: loss {loss:.4f}, accuracy {accuracy:.3f}")
    return weights | {"embeddings": table}


def main() -> None:
    parser = Parser(prog="python -m tools.train.train_small", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=integer(1), default=2000, help="updates (2000)")
    add_seed(parser, default=1)
    parser.add_argument("-o", "--output", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    weights = train(options.steps, options.seed)
    half: Any = {name: values.astype(np.float16) for name, values in weights.items()}
    np.savez_compressed(options.output, **half)


if __name__ == "__main__":
    main()
