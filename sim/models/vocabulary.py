"""Text to token ids, by the tokenizer that comes with a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .checkpoint import CheckpointError
from .text import TEXT

if TYPE_CHECKING:  # imported where it is used: the project's own models need no tokenizers
    from tokenizers import Tokenizer

__all__ = ["encode", "from_folder"]


def from_folder(path: Path) -> "Tokenizer":
    """The tokenizer in ``tokenizer.json`` of folder ``path``; ``CheckpointError``."""
    from tokenizers import Tokenizer

    file = path / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{file} must be a readable tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: "Tokenizer", tokens: int, text: str = TEXT) -> np.ndarray:
    """The first ``tokens`` token ids of ``text``, which starts over at its end.

    The tokens that mark begin and end are among them where there is room for a word beside them.
    """
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens!r}")
    once = len(tokenizer.encode(text, add_special_tokens=False).ids)
    if not once:
        raise ValueError(f"text must hold at least one token, not {text!r}")
    text = " ".join([text] * -(-tokens // once))
    marks = tokens > tokenizer.num_special_tokens_to_add(False)
    tokenizer.enable_truncation(tokens)
    ids = tokenizer.encode(text, add_special_tokens=marks).ids
    tokenizer.no_truncation()
    return np.array(ids[:tokens])
