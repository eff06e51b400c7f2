"""A user's own inputs: texts, token ids, images, on the command line or in files."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compiler.checkpoints import registry
from compiler.checkpoints.arrays import read_npy
from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.images import read_image
from compiler.sound import read_sound

if TYPE_CHECKING:  # imported where a text is read
    from tokenizers import Tokenizer

__all__ = ["Example", "ExampleError", "add_input_flags", "batches", "behind_encoder",
           "examples_of", "from_ids", "from_texts", "own_examples"]


class ExampleError(ValueError):
    """An input that the model cannot take; the message is one line."""


@dataclass(frozen=True)
class Example:
    """One input: S token ids, or S × items patches of an image, and what it is called.

    ``text``: what the ids were made of; ``context``: the second text of a pair. ``segments``: of
    which kind each position is, where the model tells them apart. ``spans``: of each position the
    text that it stands for, the number of the text (None: a mark) and its first and last character.
    """

    name: str
    values: np.ndarray
    text: str | None = None
    context: str | None = None
    segments: np.ndarray | None = None
    spans: tuple[tuple[int | None, int, int], ...] = ()

    @property
    def length(self) -> int:
        return len(self.values)


def add_input_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of one's own inputs, each of which may be given several times."""
    group = parser.add_argument_group("inputs of one's own, instead of the project's")
    group.add_argument("--text", action="append", metavar="TEXT", help="a text")
    group.add_argument("--context", metavar="TEXT", help="a second text that every text is "
                       "paired with: what a question is about")
    group.add_argument("--text-file", action="append", type=Path, metavar="FILE",
                       help="texts, one a line, in UTF-8")
    group.add_argument("--ids", action="append", type=Path, metavar="FILE",
                       help="token ids, .npy: one row, or a row for each sequence; ids below 0 at "
                       "the end of a row pad it")
    group.add_argument("--image", action="append", type=Path, metavar="FILE",
                       help="an image: PNG, JPEG and others that Pillow reads, or pixels as .npy")
    group.add_argument("--audio", action="append", type=Path, metavar="FILE",
                       help="sound: a WAV file of 16 bits at 16 kHz, or as .npy samples or frames")


def own_examples(options: argparse.Namespace, model: Transformer) -> list[Example]:
    """What the flags name, none where none is given. Texts and ids of more than ``--tokens`` are
    cut. ``ExampleError``, ``CheckpointError``, ``ArrayError``."""
    found: list[Example] = []
    texts = [("text", text) for text in options.text or ()]
    for path in options.text_file or ():
        texts += _lines(path)
    if texts:
        words = registry.tokenizer(options.model, offline=options.offline)
        found += from_texts(words, [text for _, text in texts], model, options.tokens,
                            names=[name for name, _ in texts], context=options.context)
    elif options.context is not None:
        raise ExampleError("context is the second text of a pair: --text gives the first")
    for path in options.ids or ():
        found += from_ids(read_npy(path), model, options.tokens, str(path))
    for path in options.image or ():
        found.append(Example(str(path), read_image(options.model, model, path)))
    for path in options.audio or ():
        found.append(Example(str(path), read_sound(model, path)))
    return found


def _lines(path: Path) -> list[tuple[str, str]]:
    """Name and text of each line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ExampleError(f"text-file must be a readable file, not {str(path)!r}: "
                           f"{error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ExampleError(f"{path} must be UTF-8, but has byte {error.object[error.start]:#04x} "
                           f"where none can be") from error
    found = [(f"{path}, line {number}", line) for number, line in enumerate(lines, 1)
             if line.strip()]
    if not found:
        raise ExampleError(f"{path} must hold at least one line of text")
    return found


def from_texts(words: "Tokenizer", texts: Sequence[str], model: Transformer,
               most: int | None = None, names: Sequence[str] | None = None,
               context: str | Sequence[str] | None = None) -> list[Example]:
    """Texts as token ids with the marks of begin and end, each paired with ``context`` if given,
    one for all or for each its own; ``most``: those of more are cut, marks kept."""
    first = (model.encoder or model).embedding
    if isinstance(first, Patches):
        raise ExampleError(f"{model.name} reads {_kind_of(first)}, not text")
    words.no_padding()
    words.no_truncation()
    if most is not None:
        if most < 1:
            raise ExampleError(f"tokens must be at least 1, not {most}")
        words.enable_truncation(most)
    found = []
    contexts = [context] * len(texts) if context is None or isinstance(context, str) else context
    pairs = list(texts) if context is None else list(zip(texts, contexts, strict=True))
    for index, encoded in enumerate(words.encode_batch(pairs)):
        name = f"text {index}" if names is None else names[index]
        if most is not None and len(encoded.ids) > most:  # too few to cut to
            raise ExampleError(f"tokens must leave room for more than the marks of begin and end "
                               f"of {name}, not {most}")
        kinds = np.array(encoded.type_ids, np.int64)
        segments = kinds if kinds.any() and first.segments is not None else None
        spans = tuple((part, *span) for part, span in zip(
            encoded.sequence_ids, encoded.offsets, strict=True))
        found.append(_checked(Example(name, np.array(encoded.ids, np.int64), texts[index],
                                      contexts[index], segments, spans), model))
    words.no_truncation()
    return found


def from_ids(ids: np.ndarray, model: Transformer, most: int | None = None, name: str = "ids"
             ) -> list[Example]:
    """Rows of token ids; those below 0 at a row's end pad it."""
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or not ids.size:
        raise ExampleError(f"{name} must hold whole numbers, one row or a row for each sequence, "
                           f"not {ids.dtype} of shape {ids.shape}")
    found = []
    for number, row in enumerate(np.atleast_2d(ids)):
        used = np.flatnonzero(row >= 0)
        length = int(used[-1]) + 1 if len(used) else 0
        own = f"{name}, row {number}" if ids.ndim == 2 else name
        if len(used) < length:
            raise ExampleError(f"{own} must have ids below 0 at its end alone, not "
                               f"{row[row < 0][0]} at position {int(np.flatnonzero(row < 0)[0])}")
        found.append(_checked(Example(own, row[:length].astype(np.int64)[:most]), model))
    return found


def _checked(example: Example, model: Transformer) -> Example:
    """``ExampleError`` where the model cannot take it."""
    reader = model.encoder or model
    embedding = reader.embedding
    if isinstance(embedding, Patches):
        raise ExampleError(f"{model.name} reads {_kind_of(embedding)}, not text")
    if not example.length:
        raise ExampleError(f"{example.name} must have at least one token")
    most = reader.positions
    if most is not None and example.length > most:
        raise ExampleError(f"{example.name} has {example.length} tokens, and {model.name} takes at "
                           f"most {most}; --tokens {most} cuts")
    beyond = example.values[(example.values < 0) | (example.values >= len(embedding.table))]
    if len(beyond):
        raise ExampleError(f"ids of {example.name} must be from 0 to {len(embedding.table) - 1}, "
                           f"not {beyond[0]}")
    return example


def _kind_of(embedding: Patches) -> str:
    return "images" if embedding.convolution is None else "sound"


def examples_of(given: Any, model: Transformer, words: "Tokenizer | None" = None
                ) -> list[Example]:
    """What a program gives: a text or several, ids or patches as arrays, or ``Inputs``."""
    if isinstance(given, Inputs):
        every = np.ones(given.values.shape[:2], bool) if given.valid is None else given.valid
        kinds = given.segments
        return [Example(f"sequence {index}", row[every[index]],
                        segments=None if kinds is None else kinds[index][every[index]])
                for index, row in enumerate(given.values)]
    if isinstance(given, str):
        given = [given]
    if isinstance(given, Sequence) and given and all(isinstance(x, Example) for x in given):
        return list(given)
    if isinstance(given, Sequence) and given and all(isinstance(item, str) for item in given):
        if words is None:
            raise ExampleError(f"{model.name} comes without a tokenizer: it takes ids, not texts")
        return from_texts(words, given, model)
    if isinstance((model.encoder or model).embedding, Patches):
        values = np.asarray(given, np.float64)
        values = values[None] if values.ndim == 2 else values
        return [Example(f"image {index}", one) for index, one in enumerate(values)]
    if isinstance(given, Sequence) and given and not isinstance(given[0], int | np.integer):
        return [example for index, row in enumerate(given)
                for example in from_ids(np.asarray(row), model, name=f"ids {index}")]
    return from_ids(np.asarray(given), model)


def behind_encoder(model: Transformer | None, given: Inputs) -> Inputs:
    """``given`` for ``model``: where that has an encoder they are its source, and the layers get
    the tokens that a text begins with."""
    if model is None or model.encoder is None or given.source is not None:
        return given
    return Inputs("ids", np.tile(np.array(model.start), (given.sequences, 1)), source=given)


def batches(examples: Sequence[Example], size: int, model: Transformer | None = None
            ) -> Iterator[tuple[range, Inputs]]:
    """Which examples go together, ``size`` of them in their order, and what a program takes:
    shorter ones are padded at their end. ``model``: where that has an encoder, they are for it."""
    for first in range(0, len(examples), size):
        own = range(first, min(first + size, len(examples)))
        values, valid = _stacked([examples[index].values for index in own])
        segments = None
        if any(examples[index].segments is not None for index in own):
            segments, _ = _stacked([_kinds(examples[index]) for index in own])
        padded = None if valid.all() else valid
        kind: Literal["ids", "patches"] = "ids" if values.ndim == 2 else "patches"
        yield own, behind_encoder(model, Inputs(kind, values, padded, segments))


def _kinds(example: Example) -> np.ndarray:
    if example.segments is None:
        return np.zeros(example.length, np.int64)
    return example.segments


def _stacked(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one length, and which of their items are theirs."""
    lengths = np.array([len(part) for part in parts])
    values = np.zeros((len(parts), lengths.max(), *parts[0].shape[1:]), parts[0].dtype)
    for row, part in zip(values, parts, strict=True):
        row[:len(part)] = part
    return values, np.arange(values.shape[1]) < lengths[:, None]
