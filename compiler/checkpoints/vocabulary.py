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
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    settings = Settings(file, str(file.path), "tokenizer.ggml.")
    if settings.get("model") != "gpt2":
        raise settings.refuse("model", "gpt2, the byte-level BPE")
    pre = settings.get("pre")
    if not isinstance(pre, str) or pre not in _SPLITS:
        raise settings.refuse("pre", f"one of {', '.join(_SPLITS)}")
    words, merges = (_texts(settings, name) for name in ("tokens", "merges"))
    numbers = {word: index for index, word in enumerate(words)}
    if len(numbers) < len(words):
        raise settings.refuse("tokens", "texts that each stand once")
    try:
        pairs = [(first, last) for first, last in (merge.split(" ", 1) for merge in merges)]
        model = models.BPE(numbers, pairs)
        tokenizer = Tokenizer(model)
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{file.path}: merges must join tokens: {error}") from error
    split = pre_tokenizers.ByteLevel(add_prefix_space=settings.flag("add_space_prefix", False))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = (pre_tokenizers.Sequence([digits, split])
                               if _SPLITS[pre] else split)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = settings.get("token_type")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != len(words)):
        raise settings.refuse("token_type", f"a number for each of {len(words)} tokens")
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word, kind
                                  in zip(words, kinds or (), strict=False) if kind == _CONTROL])
    marks = [_mark(settings, name, words) for name in ("bos", "eos")]
    if any(marks):
        first, last = ([] if mark is None else [mark] for mark in marks)
        try:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=[*(f"{word}:0" for word in first), "$A:0",
                        *(f"{word}:0" for word in last)],
                special_tokens=[(word, numbers[word]) for word in {*first, *last}])
        except Exception as error:  # the library raises Exception itself
            raise CheckpointError(f"{file.path}: tokens must be able to mark a text's ends, which "
                                  f"{' and '.join([*first, *last])} cannot: {error}") from error
    return tokenizer


def _texts(settings: Settings, name: str) -> list[str]:
    """A list of texts; none where there is none."""
    values = settings.get(name)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise settings.refuse(name, "a list of texts")
    return values


def _mark(settings: Settings, name: str, words: list[str]) -> str | None:
    """The token that begins or ends every text, where the settings say that it does."""
    if not settings.flag(f"add_{name}_token", False):
        return None
    number = settings.whole(f"{name}_token_id")
    if number >= len(words):
        raise settings.refuse(f"{name}_token_id", f"less than {len(words)}, the number of tokens")
    return words[number]


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
