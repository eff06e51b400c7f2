"""Attention of one layer: projections, scores, softmax, weighted sums of the values.

All heads' scores come first, then all heads' sums, so that only two fences stand between the
projections and the output, and neighbouring heads overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.description import Attention
from compiler.checkpoints.inputs import Step
from compiler.lowering.lane_ops import Scale, Softmax
from compiler.lowering.ops import Product
from compiler.lowering.rotary import rotate
from compiler.lowering.saved import Saved
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Value, View
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import largest

__all__ = ["CacheRows", "attend"]


@dataclass(frozen=True)
class CacheRows:
    """Keys and values of all positions, rows by sequence and position; each step writes its own."""

    keys: Value
    values: Value


@dataclass(frozen=True)
class _Unit:
    """Queries that share keys, values and mask, and where their sums go."""

    queries: View
    keys: View
    values: View
    sums: View
    mask: View | None


def attend(trace: Tracer, attention: Attention, x: Value, cache: CacheRows | None, step: Step,
           label: str, saved: Saved | None = None) -> Value:
    """The heads' results side by side, rows × (heads · d).

    ``attention``'s rotary pairs lie in halves. With a ``cache`` the keys and values of this step
    are written to its rows and those of all earlier steps take part. ``saved`` takes what a
    backward pass reads.
    """
    size = attention.head_size
    if cache is None:
        queries, keys, values = _project_at_once(trace, attention, x, label)
    else:
        queries = _project(trace, attention, x, cache, step, label).whole
        keys, values = cache.keys.whole, cache.values.whole
    probabilities = trace.value(f"{label}probabilities", attention.heads * step.rows, step.total)
    sums = trace.value(f"{label}heads", step.rows, attention.heads * size)
    units = list(_units(trace, attention, queries, (keys, values), sums, step))
    if saved is not None:
        saved.queries, saved.keys, saved.values = queries, keys, values
        saved.probabilities, saved.heads = probabilities, sums
    _softmax(trace, units, probabilities, size ** -0.5, label)
    trace.gemm([Product(rows, unit.values, unit.sums)
                for rows, unit in zip(_stacked(probabilities, units), units, strict=True)],
               sums, b_transposed=False)
    return sums


def _project_at_once(trace: Tracer, attention: Attention, x: Value, label: str
                     ) -> tuple[View, View, View]:
    """Queries, keys and values by one GEMM."""
    linears = attention.query, attention.key, attention.value
    widths = [len(linear.weight) for linear in linears]
    weight = trace.weight(f"{label}projections weight", *(linear.weight for linear in linears))
    bias = trace.bias(f"{label}projections bias", *(linear.bias for linear in linears))
    out = trace.value(f"{label}projections", x.rows, sum(widths))
    trace.product(x.whole, weight, bias, out, f"{label}projections")
    starts = np.cumsum([0, *widths[:-1]])
    queries, keys, values = (out.whole.block(0, int(start), out.rows, width)
                             for start, width in zip(starts, widths, strict=True))
    return queries, keys, values


def _project(trace: Tracer, attention: Attention, x: Value, cache: CacheRows, step: Step, label: str
             ) -> Value:
    """The queries; keys and values go to their rows of the cache."""
    keys = cache.keys.whole.row_block(step.past, step.rows)
    values = cache.values.whole.row_block(step.past, step.rows)
    queries = trace.value(f"{label}query", step.rows, len(attention.query.weight))
    parts = [(attention.query, queries.whole, "query"), (attention.key, keys, "key")]
    if attention.rotary is None:
        for linear, out, name in parts:
            trace.linear(x.whole, linear, out, f"{label}{name}")
    else:
        plain = [trace.value(f"{label}{name} unrotated", out.rows, out.columns)
                 for _, out, name in parts]
        for (linear, _, name), out in zip(parts, plain, strict=True):
            trace.linear(x.whole, linear, out, f"{label}{name}")
        rotate(trace, attention.rotary, attention.head_size,
               [(given, out, f"{label}{name}")
                for (_, out, name), given in zip(parts, plain, strict=True)], step)
    # Last: the array has work while the lanes rotate.
    trace.linear(x.whole, attention.value, values, f"{label}value")
    return queries


def _units(trace: Tracer, attention: Attention, queries: View, cache: tuple[View, View],
           sums: Value, step: Step) -> Iterator[_Unit]:
    """Each head of each sequence; of one position, all heads that share keys and values."""
    size, shared = attention.head_size, attention.heads // attention.kv_heads
    at_once = shared if step.length == 1 else 1
    for sequence in range(step.sequences):
        mask = _mask(trace, attention, step, sequence)
        for head in range(0, attention.heads, at_once):
            rows = sequence * step.length, head * size, step.length, at_once * size
            own, out = queries.block(*rows), sums.whole.block(*rows)
            if at_once > 1:
                own, out = own.split(size), out.split(size)
            keys, values = (part.block(sequence * step.total, head // shared * size, step.total,
                                       size) for part in cache)
            yield _Unit(own, keys, values, out, mask)


def _mask(trace: Tracer, attention: Attention, step: Step, sequence: int) -> View | None:
    """What is added to a head's scores: 0, and the most negative BF16 where a position does not
    see another; 1×S where only padding is hidden."""
    if step.renewed and step.valid is not None:
        every = trace.shared(("masks",), "masks", step.valid.shape, Form.WIDE,
                             lambda: np.where(step.valid, 0.0, -largest(BFLOAT16)))
        return every.whole.row_block(sequence, 1)
    hidden = np.zeros((1, step.total), bool)
    if step.valid is not None:
        hidden |= ~step.valid[sequence, :step.total]
    if attention.causal and step.length > 1:
        seen = np.arange(step.past, step.total)[:, None]
        hidden = hidden | (np.arange(step.total) > seen)
    if not hidden.any():
        return None
    return trace.shared(("mask", hidden.tobytes(), hidden.shape),
                        f"mask of {step.total} positions", hidden.shape, Form.WIDE,
                        lambda: np.where(hidden, -largest(BFLOAT16), 0.0)).whole


def _stacked(value: Value, units: list[_Unit]) -> Iterator[View]:
    """The rows of each unit in a value that has them below one another."""
    first = 0
    for unit in units:
        yield value.whole.row_block(first, unit.queries.rows)
        first += unit.queries.rows


def _softmax(trace: Tracer, units: list[_Unit], out: Value, scale: float, label: str) -> None:
    """Every unit's softmax(scale · QKᵀ + mask) into its rows of ``out``."""
    masked = any(unit.mask is not None for unit in units)
    scores, plain = (trace.value(f"{label}{name}", out.rows, out.columns)
                     for name in ("scores", "unscaled scores"))
    trace.gemm([Product(unit.queries, unit.keys, rows)
                for unit, rows in zip(units, _stacked(plain, units), strict=True)], plain)
    if masked:
        scaled = trace.value(f"{label}scores without mask", out.rows, out.columns)
        trace.vector(plain.whole, Scale(scale), scaled)
        masks = [unit.mask for unit in units]
        trace.add(scaled.whole, masks[:1] if len(units) == 1 else masks, scores)
    else:
        trace.vector(plain.whole, Scale(scale), scores)
    trace.vector(scores.whole, Softmax(), out)
