"""Tasks: a model, what it reads, and what is right. Examples are fixed by splits that training
knows, or by a seed, before anything is measured."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from compiler.adapted import with_adapters
from compiler.checkpoints import characters, load
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.digits import HELD_OUT, INTEGER_WEIGHTS, WEIGHTS, images, patches
from compiler.checkpoints.packages import BERT_TINY, GENSIM, MINILM, SMOLLM2
from compiler.checkpoints.registry import tokenizer
from compiler.training.gradients.network import Batch
from compiler.training.tasks import (
    character_windows,
    long_reviews,
    movie_reviews,
    review_text,
    reviews,
)
from hdl.spec.config import AcceleratorConfig

__all__ = ["LONGEST", "TASKS", "Task", "model_of", "task_of"]

LONGEST = 512  # tokens
_ADAPTERS = Path(__file__).parent / "adapters"
_LONG = 400  # reviews that have as many
_CALIBRATION = 64  # sentences, images, windows of characters
_WINDOWS = 16  # of as many tokens, of running text
_CHARACTERS = 256  # windows of running text
_MADE_BY = {"bert-tiny": str(BERT_TINY), "minilm": str(MINILM), "smollm2": str(SMOLLM2)}


@dataclass(frozen=True)
class Task:
    """``examples``: of each its ids, S, or patches, S × items. ``right``: of classes the label of
    each, of embeddings how alike each two are. ``made_by``: what the model is, by which results are
    kept. ``positions``: computed at a time, about. ``calibration``: other examples, of training,
    for what asks for some. ``trains``: whether the model has a backward pass."""

    name: str
    model: str
    metric: str
    examples: tuple[np.ndarray, ...]
    right: np.ndarray
    made_by: str
    adapter: Path | None = None
    positions: int = 2048
    calibration: tuple[np.ndarray, ...] = ()
    trains: bool = True


def _tuned(name: str, model: str, examples: tuple[np.ndarray, ...], right: np.ndarray) -> Task:
    """Of a model with the adapter for reviews that was trained here."""
    adapter = _ADAPTERS / f"{model}-reviews.safetensors"
    digest = hashlib.sha256(adapter.read_bytes()).hexdigest()[:16]
    return Task(name, model, "accuracy", examples, right, f"{_MADE_BY[model]}, adapter {digest}",
                adapter)


def _sentences(name: str, model: str) -> Task:
    """The 1,066 sentences that are held out from training."""
    task = movie_reviews(tokenizer(model))
    return replace(_tuned(name, model, _unpadded(task.held_out), task.held_out.labels),
                   calibration=_unpadded(task.train.part(slice(_CALIBRATION))))


def _unpadded(batch: Batch) -> tuple[np.ndarray, ...]:
    assert batch.valid is not None, "texts of many lengths are padded"
    return tuple(ids[valid] for ids, valid in zip(batch.inputs, batch.valid, strict=True))


def _long_reviews(name: str, model: str) -> Task:
    """Reviews of another source, in an order drawn by seed 0; the first that have 512 tokens."""
    texts, words = reviews("imdb"), tokenizer(model)
    words.no_padding()
    words.enable_truncation(LONGEST)
    chosen: list[tuple[np.ndarray, int]] = []
    for number in np.random.default_rng(0).permutation(len(texts)):
        text, label = texts[number]
        ids = words.encode(text.replace("<br />", " ")).ids
        if len(ids) == LONGEST:
            chosen.append((np.array(ids), label))
        if len(chosen) == _LONG:
            break
    return _tuned(name, model, tuple(ids for ids, _ in chosen),
                  np.array([label for _, label in chosen]))


def _digits(name: str, model: str, weights: Path) -> Task:
    """The 450 images that the model was not trained on."""
    pixels, labels = images()
    return Task(name, model, "accuracy", tuple(patches(pixels[-HELD_OUT:])), labels[-HELD_OUT:],
                _digest(weights), calibration=tuple(patches(pixels[:_CALIBRATION])),
                trains=model == "digits-vit")


def _digest(weights: Path) -> str:
    """Of a model that was trained here."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


def _characters() -> Task:
    """Windows of longer reviews that the model was not trained on."""
    kept, held_out = (tuple(character_windows(texts, count)[:, :-1]) for texts, count
                      in zip(long_reviews(), (_CALIBRATION, _CHARACTERS), strict=True))
    return Task("characters", "char-integer", "perplexity", held_out, np.zeros(len(held_out)),
                _digest(characters.WEIGHTS), calibration=kept, trains=False)


def _text() -> Task:
    """16 windows of longer reviews."""
    task = review_text(tokenizer("smollm2"), LONGEST, 1, _WINDOWS)
    return Task("text", "smollm2", "perplexity", tuple(task.held_out.inputs), np.zeros(_WINDOWS),
                _MADE_BY["smollm2"], positions=LONGEST, calibration=tuple(task.train.inputs))


def _documents() -> Task:
    """50 documents of news with how alike people found each pair (Lee, Pincombe and Welsh, "An
    Empirical Evaluation of Models of Text Document Similarity", 2005)."""
    folder, words = GENSIM.unpack(), tokenizer("minilm")
    words.no_padding()
    words.no_truncation()
    texts, scores = (folder / member for member in GENSIM.members)
    examples = tuple(np.array(words.encode(text).ids)
                     for text in texts.read_text(encoding="latin-1").splitlines())
    return Task("documents", "minilm", "spearman", examples, np.loadtxt(scores),
                _MADE_BY["minilm"])


TASKS: dict[str, tuple[str, Callable[[], Task]]] = {
    "reviews-tiny": ("BERT-tiny with its adapter, sentences of reviews, praise or not",
                     lambda: _sentences("reviews-tiny", "bert-tiny")),
    "long-tiny": ("BERT-tiny with its adapter, beginnings of longer reviews",
                  lambda: _long_reviews("long-tiny", "bert-tiny")),
    "digits": ("digits ViT, images it was not trained on",
               lambda: _digits("digits", "digits-vit", WEIGHTS)),
    "digits-integer": ("digits ViT with polynomial attention and L1 norms", lambda: _digits(
        "digits-integer", "digits-integer", INTEGER_WEIGHTS)),
    "characters": ("language model of characters with polynomial attention and L1 norms, windows "
                   "of 64 characters of reviews", _characters),
    "documents": ("MiniLM's embeddings, how alike 1,225 pairs of documents are", _documents),
    "text": ("SmolLM2-135M, windows of 512 tokens of reviews", _text)}
"""What each is, and what makes it."""


@cache
def task_of(name: str, count: int | None = None, tokens: int | None = None) -> Task:
    """``count``: the first examples alone; ``tokens``: texts cut to these, their last mark kept.
    ``ValueError`` for what there is not, ``ModelUnavailable``."""
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, not {name!r}")
    if count is None and tokens is None:
        return TASKS[name][1]()
    task = task_of(name)
    for what, value, most in (("count", count, len(task.examples)),
                              ("tokens", tokens, min(map(len, task.examples)))):
        if value is not None and not 2 <= value <= most:
            raise ValueError(f"{what} of {name} must be from 2 to {most}, not {value}")
    examples = task.examples[:count]
    if tokens is not None:
        examples = tuple(np.append(ids[:tokens - 1], ids[-1]) for ids in examples)
    return replace(task, examples=examples, right=task.right[:count])


def model_of(task: Task, config: AcceleratorConfig | None) -> Transformer:
    """The model of a task with its adapters, merged as for ``config``, or in fp32."""
    model = load(task.model)
    if task.adapter is None:
        return model
    return with_adapters(task.model, model, task.adapter, config)
