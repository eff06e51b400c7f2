"""Questions about texts as something to train on: CSV files of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.checkpoints.description import Transformer
from compiler.examples import Example, batches, from_texts
from compiler.training.data import ALONE, QUESTIONS, TEXTS, WORDS, DataError, read_rows
from compiler.training.gradients.network import Batch
from compiler.training.masked import text_task
from compiler.training.tagged import tagged_task
from compiler.training.tasks import TOKENS, Task, own_data

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["AnswerTask", "Question", "own_task", "read_questions"]


@dataclass(frozen=True)
class Question:
    """``answer`` stands at character ``start`` of ``context``; ``unsure``: in other places, too,
    and the file does not say which one is meant. ``where``: the line."""

    where: str
    question: str
    context: str
    answer: str
    start: int
    unsure: bool = False


@dataclass(frozen=True)
class AnswerTask(Task):
    """``examples``: those held out, with their right ``answers``."""

    examples: tuple[Example, ...] = ()
    answers: tuple[str, ...] = ()


def own_task(path: Path, words: "Tokenizer", model: Transformer, tokens: int = TOKENS,
             mask_share: float | None = None) -> Task:
    """The rows of a CSV file: texts with labels (``own_data``), with a label for each word
    (``tagged_task``), or questions with a context and the answer that stands in it, for a loss over
    spans; or texts alone, of which words are hidden or told one by one (``text_task``), where
    ``mask_share`` is given whatever else there is. An eighth is held out, one at least; of
    questions whole contexts are.

    Pairs of more than ``tokens`` tokens are cut; those that lose their answer are left out, and
    ``notes`` says how many. ``DataError``, ``ExampleError`` in one line.
    """
    known = (TEXTS, QUESTIONS, WORDS, ALONE) if mask_share is None else (ALONE,)
    columns, rows = read_rows(path, *known)
    if columns == ALONE:
        return text_task(path, rows, words, model, tokens, mask_share)
    if columns == TEXTS:
        return own_data(path, words, tokens)
    if columns == WORDS:
        return tagged_task(path, rows, words, tokens)
    questions = read_questions(path, rows)
    examples = from_texts(words, [one.question for one in questions], model, tokens,
                          [one.where for one in questions], [one.context for one in questions])
    ends = [_ends(one, example, tokens) for one, example in zip(questions, examples, strict=True)]
    kept = [index for index, own in enumerate(ends) if own is not None]
    if not kept:
        raise DataError(f"{path} must hold answers that --tokens {tokens} leaves, but all "
                        f"{len(ends)} are cut off")
    held_out = _held_out(path, [questions[index].context for index in kept])
    (_, inputs), = batches([examples[index] for index in kept], len(kept))
    valid = np.ones(inputs.values.shape, bool) if inputs.valid is None else inputs.valid
    every = Batch(inputs.values, np.array([ends[index] for index in kept]), valid, inputs.segments)
    last = [index for index, out in zip(kept, held_out, strict=True) if out]
    return AnswerTask(
        path.name, "spans", every.part(~held_out), every.part(held_out),
        notes=_notes(path, questions, len(ends) - len(kept), tokens),
        examples=tuple(examples[index] for index in last),
        answers=tuple(questions[index].answer for index in last))


def read_questions(path: Path, rows: Sequence[tuple[int, Mapping[str, str | None]]]
                   ) -> list[Question]:
    """The questions of a file's ``rows``. ``DataError`` in one line for a row without a question,
    context or answer, or whose answer is not in its context, or not where ``start`` says."""
    for line, row in rows:
        for name in QUESTIONS:
            if not (row[name] or "").strip():
                raise DataError(f"{path}, line {line}: {name} must not be empty")
    wrong = [(line, row) for line, row in rows
             if str(row["answer"]) not in str(row["context"])]
    if wrong:
        line, row = wrong[0]
        raise DataError(f"{path}, line {line}: the answer must stand in its context as it is, but "
                        f"{_short(row['answer'])} does not; {len(wrong)} of {len(rows)} do not")
    return [_question(f"{path}, line {line}", row) for line, row in rows]


def _question(where: str, row: Mapping[str, str | None]) -> Question:
    question, context, answer = (str(row[name]) for name in QUESTIONS)
    told = (row.get("start") or "").strip()
    if not told:
        start = context.index(answer)
        return Question(where, question, context, answer, start,
                        context.find(answer, start + 1) > 0)
    if not (told.isascii() and told.isdecimal()):
        raise DataError(f"{where}: start must be the number of the context's character that the "
                        f"answer begins with, from 0, not {_short(told)}")
    start = int(told[:len(str(len(context))) + 1])
    if not context.startswith(answer, start) or start >= len(context):
        raise DataError(f"{where}: at character start = {_short(told)} of the context the answer "
                        f"{_short(answer)} must stand, not "
                        f"{_short(context[start:start + len(answer)])}")
    return Question(where, question, context, answer, start)


def _short(text: str | None) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _ends(question: Question, example: Example, tokens: int) -> tuple[int, int] | None:
    """The positions of the answer's first and last token; ``None`` where the context was cut before
    its end. ``DataError`` for an answer without tokens."""
    stop = question.start + len(question.answer.rstrip())
    context = [place for place, span in enumerate(example.spans) if span[0] == 1]
    places = [place for place in context
              if example.spans[place][1] < stop and example.spans[place][2] > question.start]
    cut = example.length == tokens
    if not places:
        if cut:
            return None
        raise DataError(f"{question.where}: the answer must have a token, but "
                        f"{_short(question.answer)} has none")
    # Only the last token that is left can be followed by more of the answer.
    if cut and places[-1] == context[-1] and example.spans[places[-1]][2] < stop:
        return None
    return places[0], places[-1]


def _held_out(path: Path, contexts: Sequence[str]) -> np.ndarray:
    """Which questions are held out: all of some contexts, drawn by a fixed seed, an eighth of the
    questions at most, or of the context that has the fewest."""
    names, own, counts = np.unique(np.array(contexts, object), return_inverse=True,
                                   return_counts=True)
    if len(names) == 1:
        raise DataError(f"{path} must have at least two different contexts with answers, one to "
                        "train on and one to hold out")
    chosen, room = [], len(own) // 8
    for name in np.random.default_rng(0).permutation(len(names)):
        if counts[name] <= room:
            chosen.append(name)
            room -= counts[name]
    return np.isin(own, chosen or [counts.argmin()])


def _notes(path: Path, questions: Sequence[Question], lost: int, tokens: int) -> tuple[str, ...]:
    unsure = sum(one.unsure for one in questions)
    return tuple(text for count, text in (
        (lost, f"{path}: {lost} of {len(questions)} questions are left out: --tokens {tokens} cuts "
               "their answers off"),
        (unsure, f"{path}: {unsure} of {len(questions)} answers stand several times in their "
                 "context, and a column start does not say where: the first is taken")) if count)
