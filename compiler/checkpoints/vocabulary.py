"""Text to token ids, by the tokenizer that comes with a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.gguf_file import GgufFile
from compiler.checkpoints.settings import Settings
from compiler.checkpoints.text import TEXT

if TYPE_CHECKING:  # imported where it is used: the project's own models need no tokenizers
    from tokenizers import Tokenizer

__all__ = ["encode", "from_folder", "from_gguf"]

# Kinds of pre-tokenizer that llama.cpp names, and whether they take digits one by one.
_SPLITS = {"gpt-2": False, "smollm": True}
_CONTROL = 3  # the type of tokens that mark, in tokenizer.ggml.token_type


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


def from_gguf(file: GgufFile) -> "Tokenizer":
    """The byte-level BPE of a GGUF file, from its tokens and merges.

    ``CheckpointError`` for another kind of tokenizer, or words split another way: give token
    ids of one's own then.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    settings = Settings(file, str(file.path), "tokenizer.ggml.")
    if settings.get("model") != "gpt2":
        raise settings.refuse("model", "gpt2, the byte-level BPE")
    if settings.get("pre") not in _SPLITS:
        raise settings.refuse("pre", f"one of {', '.join(_SPLITS)}")
    words, merges = settings.get("tokens") or [], settings.get("merges") or []
    try:
        model = models.BPE({word: index for index, word in enumerate(words)},
                           [tuple(merge.split(" ", 1)) for merge in merges])
        tokenizer = Tokenizer(model)
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{file.path}: merges must join tokens: {error}") from error
    split = pre_tokenizers.ByteLevel(add_prefix_space=settings.flag("add_space_prefix", False))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = (pre_tokenizers.Sequence([digits, split])
                               if _SPLITS[settings.get("pre")] else split)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = settings.get("token_type") or []
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word, kind
                                  in zip(words, kinds, strict=False) if kind == _CONTROL])
    return tokenizer


def encode(tokenizer: "Tokenizer", tokens: int, text: str = TEXT) -> np.ndarray:
    """The first ``tokens`` token ids of ``text``, which starts over at its end.

    The tokens that mark begin and end are among them where there is room for a word as well.
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
