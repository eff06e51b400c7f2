"""Attention of one layer: projections, scores, softmax, weighted sums of the values.

All heads' scores come first, then all heads' sums, so that only two fences stand between the
projections and the output, and neighbouring heads overlap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints import description
from compiler.checkpoints.description import Attention, Linear, Norm
from compiler.checkpoints.inputs import Step
from compiler.lowering.lane_ops import Add, Hide, Scale, Softmax
from compiler.lowering.masks import unit_bias, unit_mask
from compiler.lowering.ops import Product
from compiler.lowering.polynomial_ops import Polynomial
from compiler.lowering.rotary import rotate
from compiler.lowering.saved import Saved
from compiler.lowering.tracer import Tracer
from compiler.lowering.units import Unit, spans_of
from compiler.lowering.values import Value, View

__all__ = ["CacheRows", "attend", "mix"]


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
    """Softmax of all scores, each part's into its value, or a polynomial of them, then all sums of
    the values."""
    for units, probabilities in parts:
        if attention.kernel is None:
            _softmax(trace, attention, units, probabilities, label)
        else:
            _polynomial(trace, attention, attention.kernel, units, probabilities, label)
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
    alike = attention.position_bias is None and attention.kernel is None
    at_once = shared if step.length == 1 and alike else 1
    for sequence in range(step.sequences):
        mask = None
        if attention.position_bias is None:
            mask = unit_mask(trace, attention, step, sequence)
        for head in range(0, attention.heads, at_once):
            if attention.position_bias is not None:
                mask = unit_bias(trace, attention, attention.position_bias, step, sequence, head)
            rows = sequence * step.length, head * size, step.length, at_once * size
            own, out = queries.block(*rows), sums.whole.block(*rows)
            if at_once > 1:
                own, out = own.split(size), out.split(size)
            keys, values = (part.block(step.first_row(sequence), head // shared * size, step.total,
                                       size) for part in cache)
            yield Unit(own, keys, values, out, mask)


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


def _polynomial(trace: Tracer, attention: Attention, kernel: description.Polynomial,
                units: Sequence[Unit], out: Value, label: str) -> None:
    """Every unit's polynomial of QKᵀ into its rows of ``out``. With s the scale of scores x,
    [ReLU(x s + b)]^n + δ is sⁿ times [ReLU(x + b / s)]^n + δ / sⁿ, and sⁿ is in the row's sum, too:
    nothing is scaled."""
    scores = trace.value(f"{label}scores", out.rows, out.columns)
    trace.gemm([Product(unit.queries, unit.keys, rows)
                for unit, rows in zip(units, _stacked(scores, units), strict=True)], scores,
               of=[attention.query])
    scale, heads = attention.score_scale, range(attention.heads)
    bias, delta = (own * (len(units) // attention.heads) for own in (
        tuple(kernel.bias[head] / scale for head in heads),
        tuple(abs(kernel.delta[head]) / scale ** kernel.degree for head in heads)))
    trace.vector(scores.whole, Polynomial(tuple(unit.mask for unit in units), kernel.degree, bias,
                                          delta), out)
