"""A small attention layer of this project's own, trained by ``tools.train.train_small``.

Width 64, 4 heads of 16: it looks back one and two positions in a sequence of 16 symbols.
"""

from pathlib import Path

import numpy as np

from compiler.checkpoints.description import Linear
from compiler.checkpoints.heads import AttentionHeads
from compiler.checkpoints.reference import layer_norm

__all__ = ["HEADS", "LONGEST", "SYMBOLS", "WEIGHTS", "WIDTH", "embeddings", "layer_input", "load"]

WEIGHTS = Path(__file__).with_name("small_head.npz")
SYMBOLS = 16
WIDTH = 64
HEADS = 4
LONGEST = 512
NORM_EPS = 1e-6


def embeddings(rng: np.random.Generator) -> np.ndarray:
    """The fixed embedding of each symbol, SYMBOLS × WIDTH."""
    return rng.normal(0, 1, (SYMBOLS, WIDTH))


def positions(tokens: int) -> np.ndarray:
    """Sines and cosines of the position, periods from 2π to 2π · 64; tokens × WIDTH."""
    rate = 64.0 ** (-np.arange(WIDTH // 2) / (WIDTH // 2))
    angle = np.arange(tokens)[:, None] * rate
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1) * 1.5


def layer_input(table: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """LayerNorm of embedding plus position, … × T × WIDTH."""
    x = table[symbols] + positions(symbols.shape[-1])
    return layer_norm(x, 1.0, 0.0, NORM_EPS)


def load(tokens: int, seed: int = 0) -> AttentionHeads:
    """The layer on ``tokens`` symbols drawn from ``seed``, fp32."""
    if not 1 <= tokens <= LONGEST:
        raise ValueError(f"tokens must be from 1 to {LONGEST}, not {tokens!r}")
    with np.load(WEIGHTS) as file:
        weights = {name: file[name].astype(np.float32) for name in file.files}
    symbols = np.random.default_rng(seed).integers(0, SYMBOLS, tokens)
    x = layer_input(weights["embeddings"], symbols).astype(np.float32)
    query, key, value = (Linear(weights[name], weights[f"{name}_bias"])
                         for name in ("query", "key", "value"))
    return AttentionHeads("small layer", x, HEADS, query, key, value)
