"""What a model gives for an input: numbers, codes, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compiler.checkpoints import functions
from compiler.checkpoints.description import Tokens, Transformer
from compiler.examples import Example
from compiler.program.builder import read_codes
from compiler.program.lowered import LoweredProgram
from compiler.program.tensor import Tensor
from gen.cli import appearing
from hdl.spec.formats import Encoding

if TYPE_CHECKING:  # imported where a text is read
    from tokenizers import Tokenizer

__all__ = ["Kind", "Result", "interpreted", "kind_of", "results_of", "softmax", "token_names",
           "write_json", "write_results"]

Kind = Literal["classes", "next token", "embedding", "states", "token classes", "masked tokens",
               "answer"]
_BY_TASK: dict[str, Kind] = {
    "causal language model": "next token", "conditional language model": "next token",
    "embedding": "embedding", "image classification": "classes",
    "masked language model": "masked tokens", "question answering": "answer",
    "sequence classification": "classes", "token classification": "token classes"}
_BY_POSITION = ("states", "token classes", "masked tokens", "answer")
_SHOWN = 5
_LONGEST_ANSWER = 30  # tokens

Scores = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Result:
    """``values``: fp32, one row, or a row for each position where ``kind`` is one of positions;
    ``codes``: the same as ``encoding`` holds them.

    ``labels``: classes or tokens with their probability, the likeliest first; ``places``: of each
    position that has such, with what stands there. ``answer``: the part of the context that is most
    likely asked for, with its probability among such parts.
    """

    example: Example
    kind: Kind
    values: np.ndarray
    codes: np.ndarray
    encoding: str
    labels: Scores = ()
    places: tuple[tuple[int, str, Scores], ...] = ()
    answer: tuple[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data, without the arrays."""
        told: dict[str, Any] = {"input": self.example.name, "positions": self.example.length,
                                "kind": self.kind}
        for name in ("text", "context"):
            if getattr(self.example, name) is not None:
                told[name] = getattr(self.example, name)
        if self.labels:
            told |= {"label": self.labels[0][0], "scores": dict(self.labels)}
        if self.answer is not None:
            told |= {"answer": self.answer[0], "score": self.answer[1]}
        if self.places:
            told["places"] = [{"position": position, "text": text, "label": scores[0][0],
                               "scores": dict(scores)} for position, text, scores in self.places]
        return told

    def line(self) -> str:
        """In one line."""
        shown = f"{self.example.name}: "
        if self.labels:
            return shown + ", ".join(f"{label!r} {score:.4f}" for label, score in self.labels)
        if self.answer is not None:
            return shown + f"{self.answer[0]!r} {self.answer[1]:.4f}"
        if self.places:
            return shown + ", ".join(f"{text!r} {scores[0][0]!r} {scores[0][1]:.4f}"
                                     for _, text, scores in self.places)
        rows = f"{len(self.values)} × " if self.values.ndim == 2 else ""
        return (f"{shown}{self.kind} of {rows}{self.values.shape[-1]} items, length "
                f"{np.linalg.norm(np.float64(self.values)):.5g}")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    return functions.softmax(np.asarray(logits, np.float64))


def kind_of(model: Transformer) -> Kind:
    """What the last rows of ``model`` are."""
    if model.task in _BY_TASK:
        return _BY_TASK[model.task]
    if model.head is not None:
        tokens = isinstance(model.embedding, Tokens) and len(model.head.weight) == len(
            model.embedding.table)
        return "next token" if tokens and model.pooling == "none" else "classes"
    if model.pooling != "none" or model.blocks[-1].attention.causal:
        return "embedding"
    return "states"


def token_names(model: Transformer, words: "Tokenizer | None") -> dict[str, Any]:
    """What ``results_of`` calls the items of a head's row, where they are tokens, and the token
    that stands for a hidden one."""
    if words is None or kind_of(model) not in ("next token", "masked tokens"):
        return {}
    marks = [words.token_to_id(name) for name in ("[MASK]", "<mask>")]
    return {"names": [words.decode([index], skip_special_tokens=False)
                      for index in range(words.get_vocab_size())],
            "mask": next((mark for mark in marks if mark is not None), None)}


def final_tensor(program: LoweredProgram) -> Tensor:
    """What the program leaves last: in BF16 where it is there in BF16."""
    last = [name for name in program.results if not name.endswith((" keys", " values"))][-1]
    return program.results.get(f"{last.rpartition(' ')[0]} bf16", program.results[last])


def results_of(model: Transformer, program: LoweredProgram, memory: np.ndarray,
               examples: Sequence[Example], names: Sequence[str] = (), mask: int | None = None,
               every: bool = False) -> list[Result]:
    """Of each of ``examples``, which the program took side by side. ``names``: of tokens;
    ``mask``: the token in whose place others are looked for. ``every``: the program leaves all
    positions of a causal model."""
    tensor = final_tensor(program)
    encoding = tensor.encoding
    assert isinstance(encoding, Encoding), "results are numbers"
    codes = read_codes(memory, tensor, program.base).copy()
    values = program.image.values(tensor.name, memory).astype(np.float32)
    kind, each, found = kind_of(model), len(values) // len(examples), []
    for index, example in enumerate(examples):
        first = index * each
        if every or kind in _BY_POSITION:
            rows: slice | int = slice(first, first + example.length)
        else:
            # Without a norm, a head or a mean after it, the last layer has left every position.
            alone = each == 1 or model.pooling.startswith("first")
            rows = first if alone else first + example.length - 1
        own = Result(example, kind, values[rows], codes[rows], encoding.name)
        found.append(own if every else interpreted(own, model, names, mask))
    return found


def interpreted(own: Result, model: Transformer, names: Sequence[str] = (),
                mask: int | None = None) -> Result:
    """``own`` with what its numbers mean; ``names`` and ``mask`` as for ``results_of``."""
    labels = names if own.kind in ("next token", "masked tokens") else model.labels
    if own.kind in ("classes", "next token"):
        return replace(own, labels=_likeliest(own.values, labels))
    if own.kind == "answer":
        return replace(own, answer=_answer(own))
    if own.kind in ("token classes", "masked tokens"):
        ids = own.example.values
        chosen = [place for place in range(own.example.length)
                  if (_words(own, place, place) is not None if own.kind == "token classes"
                      else ids[place] == mask)]
        return replace(own, places=tuple(
            (place, _words(own, place, place) or str(ids[place]),
             _likeliest(own.values[place], labels)) for place in chosen))
    return own


def _words(own: Result, first: int, last: int) -> str | None:
    """The text that positions ``first`` to ``last`` stand for; ``None``: marks, or no text."""
    spans = own.example.spans
    if not spans or spans[first][0] is None or spans[last][0] is None:
        return None
    text = own.example.context if spans[first][0] else own.example.text
    return None if text is None else text[spans[first][1]:spans[last][2]]


def _answer(own: Result) -> tuple[str, float] | None:
    """The likeliest span of the context, or of the text where there is none; ``None`` where no
    position stands for text."""
    part = 0 if own.example.context is None else 1
    places = [place for place, span in enumerate(own.example.spans) if span[0] == part]
    if not places:
        return None
    start, end = (own.values[places, side].astype(np.float64) for side in (0, 1))
    scores = start[:, None] + end[None]
    length = np.arange(len(places))[None] - np.arange(len(places))[:, None]
    scores = np.where((length >= 0) & (length < _LONGEST_ANSWER), scores, -np.inf)
    best = int(scores.argmax())
    first, last = divmod(best, len(places))
    likely = np.exp(scores.max() - np.logaddexp.reduce(scores, axis=None))
    return _words(own, places[first], places[last]) or "", round(float(likely), 6)


def _likeliest(logits: np.ndarray, names: Sequence[str]) -> Scores:
    """The likeliest, all where they are few."""
    likely = softmax(logits)
    order = np.argsort(-likely, kind="stable")
    order = order[:_SHOWN] if len(order) > 4 * _SHOWN else order
    return tuple((names[i] if i < len(names) else str(i), round(float(likely[i]), 6))
                 for i in map(int, order))


def write_results(folder: Path, results: Sequence[Result], about: Mapping[str, Any]) -> list[str]:
    """``results.json``, ``about`` the run and what each input gave, and in ``.npy`` the values in
    fp32 and their codes: the names of the files. ``OSError``.

    Rows of inputs of unequal length lie one after the other; ``rows`` of each says which are its.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, listed = 0, []
    for result in results:
        count = len(np.atleast_2d(result.values))
        listed.append(result.as_dict() | {"rows": [rows, rows + count]})
        rows += count
    kind = results[0].kind
    name = kind if kind in ("embedding", "states") else "logits"
    arrays = {f"{name}.npy": np.concatenate([np.atleast_2d(r.values) for r in results]),
              f"{name}.codes.npy": np.concatenate([np.atleast_2d(r.codes) for r in results])}
    for file, values in arrays.items():
        with appearing(folder / file) as path, path.open("wb") as opened:
            np.save(opened, values)
    told = dict(about) | {"values": f"{name}.npy", "codes": f"{name}.codes.npy",
                          "encoding": results[0].encoding, "results": listed}
    write_json(folder / "results.json", told)
    return [*arrays, "results.json"]


def write_json(path: Path, told: Mapping[str, Any]) -> list[str]:
    """Plain data as a file that appears whole or not at all: its name; ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as file:
        file.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [path.name]
