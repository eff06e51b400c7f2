"""What is added to scores or multiplies them, for positions that a query does not see."""

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np

from compiler.checkpoints.attention import hides
from compiler.checkpoints.description import Attention, PositionBias
from compiler.checkpoints.inputs import Step
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Value, View
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import largest

__all__ = ["mask_of", "padding_masks", "unit_bias", "unit_mask"]


def padding_masks(trace: Tracer, step: Step) -> Value | None:
    """A row for each sequence: 0, and the most negative BF16 where it is padded; of a step that is
    ``renewed``, else None."""
    if not step.renewed or step.valid is None:
        return None
    return trace.shared(("masks",), "masks", step.valid.shape, Form.WIDE,
                        lambda: np.where(step.valid, 0.0, -largest(BFLOAT16)))


def unit_mask(trace: Tracer, attention: Attention, step: Step, sequence: int) -> View | None:
    """What is added to a head's scores: 0, and the most negative number where a position does not
    see another; 1×S where only padding is hidden. What multiplies a polynomial of them: 1, and
    0."""
    if step.beside:
        shape = step.sequences, step.room
        beside = trace.shared(("masks beside", *shape), "masks", shape, Form.WIDE,
                              lambda: np.zeros(shape))
        return beside.whole.block(sequence, 0, 1, step.total)
    every = None if attention.causal else padding_masks(trace, step)
    if every is not None:
        return every.whole.row_block(sequence, 1)
    # What pads comes last: no position of a causal model that counts sees it.
    hidden, digest = _hidden(attention, replace(step, valid=None) if step.renewed else step,
                             sequence)
    masked = hidden.any() or attention.window is not None
    if masked and step.room is not None and step.valid is None:
        return _shared_mask(trace, attention, step)
    return mask_of(trace, attention, hidden, digest) if hidden.any() else None


def mask_of(trace: Tracer, attention: Attention, hidden: np.ndarray, digest: bytes = b"") -> View:
    """0, and the most negative number where ``hidden``, rows × positions, of that ``digest``; 1 and
    0 of a polynomial."""
    return trace.shared(("mask", attention.kernel is None, digest or _digest(hidden), hidden.shape),
                        f"mask of {hidden.shape[1]} positions", hidden.shape,
                        _mask_form(attention, bool(hidden.all(1).any())),
                        lambda: _mask(attention, hidden)).whole


def _digest(hidden: np.ndarray) -> bytes:
    """Of its contents, which may take as much memory as all else."""
    return hashlib.blake2b(np.packbits(hidden)).digest()


def _mask(attention: Attention, hidden: np.ndarray) -> np.ndarray:
    seen, unseen = (0.0, -largest(BFLOAT16)) if attention.kernel is None else (1.0, 0.0)
    return np.where(hidden, unseen, seen)


def _mask_form(attention: Attention, whole: bool = False) -> Form:
    """The format's 8 bits, of which lanes take twice as many a cycle; BF16 where a list of theirs
    has no room for the two factors that takes, behind a cap, and where a ``whole`` row is hidden,
    which its maximum, the most negative BF16, tells them. Factors of a polynomial need neither."""
    if attention.kernel is not None:
        return Form.STORED
    return Form.WIDE if whole or attention.cap is not None else Form.STORED


def _shared_mask(trace: Tracer, attention: Attention, step: Step) -> View:
    """The causal mask out of one for every ``past``: the columns from ``room`` − ``past`` on of a
    mask whose row r sees the columns up to ``room`` + r."""
    room, shape = step.room, (step.length, step.room + step.length)

    def mask() -> np.ndarray:
        hidden = attention.hidden(room + np.arange(step.length), np.arange(shape[1]))
        return _mask(attention, hidden)

    every = trace.shared(("causal mask", attention.kernel is None, *shape, attention.window),
                         f"mask of {step.length} positions", shape, _mask_form(attention), mask)
    return every.whole.block(0, room - step.past, step.length, step.total)


def _hidden(attention: Attention, step: Step, sequence: int) -> tuple[np.ndarray, bytes]:
    """Where a position does not see another; one row where that is the same for all; its digest.
    Not to be written to: all layers share it."""
    valid = None if step.valid is None else step.valid[sequence, :step.total].tobytes()
    across = (attention.causal and step.length > 1) or attention.window is not None
    return _hidden_from(attention.causal, attention.window, across, step.past, step.total, valid)


@lru_cache(2)  # layers with and without a window; each may be as large as a head's scores
def _hidden_from(causal: bool, window: int | None, across: bool, past: int, total: int,
                 valid: bytes | None) -> tuple[np.ndarray, bytes]:
    hidden = np.zeros((1, total), bool)
    if valid is not None:
        hidden |= ~np.frombuffer(valid, bool)
    if across:
        hidden = hidden | hides(causal, window, np.arange(past, total), np.arange(total))
    return hidden, _digest(hidden)


def unit_bias(trace: Tracer, attention: Attention, bias: PositionBias, step: Step, sequence: int,
          head: int) -> View:
    """What is added to the scores of ``head``: its bias, the most negative BF16 where hidden."""
    if step.renewed:
        raise ValueError("a program that runs again with other padding takes no position bias")
    shape, name = (step.length, step.total), f"position bias of head {head}"
    if step.room is not None and step.valid is None:
        # As for the mask: of every past the columns from room − past on.
        places = step.room + np.arange(step.length), np.arange(step.room + step.length)
        every = trace.shared(
            ("position bias", id(bias.values), head, *map(len, places)), name,
            (step.length, step.room + step.length), Form.WIDE, lambda: np.where(
                attention.hidden(*places), -largest(BFLOAT16), bias.matrix(*places)[head]))
        return every.whole.block(0, step.room - step.past, *shape)
    hidden, digest = _hidden(attention, step, sequence)

    def values() -> np.ndarray:
        own = bias.matrix(np.arange(step.past, step.total), np.arange(step.total))[head]
        return np.where(hidden, -largest(BFLOAT16), own)

    key = "position bias", id(bias.values), head, step.past, digest, hidden.shape
    return trace.shared(key, name, shape, Form.WIDE, values).whole
