"""Attention of one layer: projections, scores, softmax, weighted sums of the values.

All heads' scores come first, then all heads' sums, so that only two fences stand between the
projections and the output, and neighbouring heads overlap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Norm, PositionBias
from compiler.checkpoints.inputs import Step
from compiler.lowering.lane_ops import Add, Hide, Scale, Softmax
from compiler.lowering.ops import Product
from compiler.lowering.rotary import rotate
from compiler.lowering.saved import Saved
from compiler.lowering.tracer import Tracer
from compiler.lowering.units import Unit, spans_of
from compiler.lowering.values import Form, Value, View
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import largest

__all__ = ["CacheRows", "attend", "mask_of", "mix", "padding_masks"]


@dataclass(frozen=True)
class CacheRows:
    """Keys and values of all positions, rows by sequence and position; each step writes its own."""

    keys: Value
    values: Value


def attend(trace: Tracer, attention: Attention, x: Value, cache: CacheRows | None, step: Step,
           label: str, saved: Saved | None = None, values_of: Value | None = None) -> Value:
    """The heads' results side by side, rows × (heads · d).

    ``attention``'s rotary pairs lie in halves. With a ``cache`` the keys and values of this step
    are written to its rows and those of all earlier steps take part. ``saved`` takes what a
    backward pass reads. ``values_of``: what values read where that is not x.
    """
    size = attention.head_size
    if values_of is not None:
        queries, keys = _project_at_once(trace, (attention.query, attention.key), x,
                                         f"{label}queries and keys")
        values, = _project_at_once(trace, (attention.value,), values_of, f"{label}value")
    elif cache is None:
        queries, keys, values = _project_at_once(
            trace, (attention.query, attention.key, attention.value), x, f"{label}projections")
    else:
        queries, keys, values = _project(trace, attention, x, cache, step, label)
    # A backward pass reads all probabilities as one value.
    spans = spans_of(attention, step, whole=saved is not None)
    tables = [trace.value(f"{label}probabilities", attention.heads * step.sequences * span.rows,
                          len(span.seen)) for span in spans]
    sums = trace.given(f"{label}heads", step.rows, attention.heads * size, attention.output)
    units = list(_units(trace, attention, queries, (keys, values), sums, step))
    parts = [units] if len(spans) == 1 else [[unit.within(span) for unit in units]
                                             for span in spans]
    if saved is not None:
        saved.queries, saved.keys, saved.values = queries, keys, values
        (saved.probabilities,), saved.heads = tables, sums
    mix(trace, attention, list(zip(parts, tables, strict=True)), sums, label)
    return sums


def mix(trace: Tracer, attention: Attention, parts: Sequence[tuple[Sequence[Unit], Value]],
        sums: Value, label: str) -> None:
    """Softmax of all scores, each part's into its value, then all sums of the values."""
    for units, probabilities in parts:
        _softmax(trace, attention, units, probabilities, label)
    for units, probabilities in parts:
        trace.gemm([Product(rows, unit.values, unit.sums)
                    for rows, unit in zip(_stacked(probabilities, units), units, strict=True)],
                   sums, b_transposed=False, of=[attention.query])


def _project_at_once(trace: Tracer, linears: Sequence[Linear], x: Value, name: str) -> list[View]:
    """Queries, keys and values, or some of them, by one GEMM."""
    widths = [len(linear.weight) for linear in linears]
    weight = trace.weight(f"{name} weight", *(linear.weight for linear in linears))
    bias = trace.bias(f"{name} bias", *(linear.bias for linear in linears))
    out = trace.value(name, x.rows, sum(widths))
    trace.product(x.whole, weight, bias, out, name, linears)
    starts = np.cumsum([0, *widths[:-1]])
    return [out.whole.block(0, int(start), out.rows, width)
            for start, width in zip(starts, widths, strict=True)]


def _project(trace: Tracer, attention: Attention, x: Value, cache: CacheRows, step: Step, label: str
             ) -> list[View]:
    """The queries, and all keys and values: this step's go to their rows of the cache."""
    keys, values = (_own_rows(part.whole, step) for part in (cache.keys, cache.values))
    kept = keys
    if step.beside:  # a row of each sequence: heads side by side are not rows without gaps
        keys = trace.value(f"{label}own key", step.rows, keys.columns).whole
    queries = trace.value(f"{label}query", step.rows, len(attention.query.weight))
    parts = [(attention.query, attention.query_norm, queries.whole, f"{label}query"),
             (attention.key, attention.key_norm, keys, f"{label}key")]
    if attention.rotary is None:
        for linear, norm, out, name in parts:
            _normed(trace, linear, norm, x, out, attention.head_size, name)
    else:
        plain = [trace.value(f"{name} unrotated", out.rows, out.columns)
                 for _, _, out, name in parts]
        for (linear, norm, _, name), given in zip(parts, plain, strict=True):
            _normed(trace, linear, norm, x, given.whole, attention.head_size, name)
        rotate(trace, attention.rotary, attention.head_size,
               [(given, out, name)
                for (_, _, out, name), given in zip(parts, plain, strict=True)], step)
    # Last: the array has work while the lanes rotate.
    trace.linear(x.whole, attention.value, values, f"{label}value")
    if step.beside:
        trace.vector(keys, None, kept)
    return [queries.whole, cache.keys.whole, cache.values.whole]


def _own_rows(rows: View, step: Step) -> View:
    """The rows of the cache that this step writes."""
    if step.beside:
        return rows.every(step.room, step.past)
    return rows.row_block(step.start + step.past, step.rows)


def _normed(trace: Tracer, linear: Linear, norm: Norm | None, x: Value, out: View, size: int,
            name: str) -> None:
    """out = x Wᵀ + b, and the norm of each head of it, or of all side by side."""
    if norm is None:
        trace.linear(x.whole, linear, out, name)
        return
    plain = trace.value(f"{name} before its norm", *out.shape)
    trace.linear(x.whole, linear, plain, name)
    width = len(norm.gain)
    if width not in (size, out.columns):
        raise ValueError(f"{name} norm must have {size} items, one head's, or {out.columns}, not "
                         f"{width}")
    trace.norm(plain.whole.split(width), norm, out.split(width), f"{name} norm")


def _units(trace: Tracer, attention: Attention, queries: View, cache: tuple[View, View],
           sums: Value, step: Step) -> Iterator[Unit]:
    """Each head of each sequence; of one position, all heads that share keys and values."""
    size, shared = attention.head_size, attention.heads // attention.kv_heads
    at_once = shared if step.length == 1 and attention.position_bias is None else 1
    for sequence in range(step.sequences):
        mask = None
        if attention.position_bias is None:
            mask = _mask(trace, attention, step, sequence)
        for head in range(0, attention.heads, at_once):
            if attention.position_bias is not None:
                mask = _bias(trace, attention, attention.position_bias, step, sequence, head)
            rows = sequence * step.length, head * size, step.length, at_once * size
            own, out = queries.block(*rows), sums.whole.block(*rows)
            if at_once > 1:
                own, out = own.split(size), out.split(size)
            keys, values = (part.block(step.first_row(sequence), head // shared * size, step.total,
                                       size) for part in cache)
            yield Unit(own, keys, values, out, mask)


def padding_masks(trace: Tracer, step: Step) -> Value | None:
    """A row for each sequence: 0, and the most negative BF16 where it is padded; of a step that is
    ``renewed``, else None."""
    if not step.renewed or step.valid is None:
        return None
    return trace.shared(("masks",), "masks", step.valid.shape, Form.WIDE,
                        lambda: np.where(step.valid, 0.0, -largest(BFLOAT16)))


def _mask(trace: Tracer, attention: Attention, step: Step, sequence: int) -> View | None:
    """What is added to a head's scores: 0, and the most negative number where a position does not
    see another; 1×S where only padding is hidden."""
    if step.beside:
        shape = step.sequences, step.room
        beside = trace.shared(("masks beside", *shape), "masks", shape, Form.WIDE,
                              lambda: np.zeros(shape))
        return beside.whole.block(sequence, 0, 1, step.total)
    every = None if attention.causal else padding_masks(trace, step)
    if every is not None:
        return every.whole.row_block(sequence, 1)
    # What pads comes last: no position of a causal model that counts sees it.
    hidden = _hidden(attention, replace(step, valid=None) if step.renewed else step, sequence)
    masked = hidden.any() or attention.window is not None
    if masked and step.room is not None and step.valid is None:
        return _shared_mask(trace, attention, step)
    return mask_of(trace, attention, hidden) if hidden.any() else None


def mask_of(trace: Tracer, attention: Attention, hidden: np.ndarray) -> View:
    """0, and the most negative number where ``hidden``, rows × positions."""
    return trace.shared(("mask", hidden.tobytes(), hidden.shape),
                        f"mask of {hidden.shape[1]} positions", hidden.shape,
                        _mask_form(attention, bool(hidden.all(1).any())),
                        lambda: np.where(hidden, -largest(BFLOAT16), 0.0)).whole


def _mask_form(attention: Attention, whole: bool = False) -> Form:
    """The format's 8 bits, of which lanes take twice as many a cycle; BF16 where a list of theirs
    has no room for the two factors that takes, behind a cap, and where a ``whole`` row is hidden,
    which its maximum, the most negative BF16, tells them."""
    return Form.WIDE if whole or attention.cap is not None else Form.STORED


def _shared_mask(trace: Tracer, attention: Attention, step: Step) -> View:
    """The causal mask out of one for every ``past``: the columns from ``room`` − ``past`` on of a
    mask whose row r sees the columns up to ``room`` + r."""
    room, shape = step.room, (step.length, step.room + step.length)

    def mask() -> np.ndarray:
        hidden = attention.hidden(room + np.arange(step.length), np.arange(shape[1]))
        return np.where(hidden, -largest(BFLOAT16), 0.0)

    every = trace.shared(("causal mask", *shape, attention.window),
                         f"mask of {step.length} positions", shape, _mask_form(attention), mask)
    return every.whole.block(0, room - step.past, step.length, step.total)


def _hidden(attention: Attention, step: Step, sequence: int) -> np.ndarray:
    """Where a position does not see another; one row where that is the same for all."""
    hidden = np.zeros((1, step.total), bool)
    if step.valid is not None:
        hidden |= ~step.valid[sequence, :step.total]
    if (attention.causal and step.length > 1) or attention.window is not None:
        hidden = hidden | attention.hidden(np.arange(step.past, step.total), np.arange(step.total))
    return hidden


def _bias(trace: Tracer, attention: Attention, bias: PositionBias, step: Step, sequence: int,
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
    hidden = _hidden(attention, step, sequence)

    def values() -> np.ndarray:
        own = bias.matrix(np.arange(step.past, step.total), np.arange(step.total))[head]
        return np.where(hidden, -largest(BFLOAT16), own)

    key = "position bias", id(bias.values), head, step.past, hidden.tobytes(), hidden.shape
    return trace.shared(key, name, shape, Form.WIDE, values).whole


def _stacked(value: Value, units: Sequence[Unit]) -> Iterator[View]:
    """The rows of each unit in a value that has them below one another."""
    first = 0
    for unit in units:
        yield value.whole.row_block(first, unit.queries.rows)
        first += unit.queries.rows


def _softmax(trace: Tracer, attention: Attention, units: Sequence[Unit], out: Value, label: str
             ) -> None:
    """Every unit's softmax(scale · QKᵀ + mask) into its rows of ``out``, the scores capped before
    the mask."""
    def scale(to: Value) -> None:
        if attention.cap is None:
            trace.vector(plain.whole, Scale(attention.score_scale), to)
        else:
            trace.cap(plain.whole, attention.cap, to, f"{label}scores", attention.score_scale)

    masked = any(unit.mask is not None for unit in units)
    scores, plain = (trace.value(f"{label}{name}", out.rows, out.columns)
                     for name in ("scores", "unscaled scores"))
    trace.gemm([Product(unit.queries, unit.keys, rows)
                for unit, rows in zip(units, _stacked(plain, units), strict=True)], plain,
               of=[attention.query])
    if masked:
        scaled = trace.value(f"{label}scores without mask", out.rows, out.columns)
        scale(scaled)
        hide = Hide if attention.position_bias is None else Add
        trace.vector(scaled.whole, hide(tuple(unit.mask for unit in units)), scores)
    else:
        scale(scores)
    trace.vector(scores.whole, Softmax(), out)
