"""Attention on an encoder's results: keys and values are made once for all steps."""

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.checkpoints.description import Attention
from compiler.checkpoints.inputs import Step
from compiler.lowering.attention import CacheRows, mix
from compiler.lowering.masks import mask_of
from compiler.lowering.tracer import Tracer
from compiler.lowering.units import Unit
from compiler.lowering.values import Form, Life, Value, View

__all__ = ["Source", "attend_across", "make_rows", "project_across"]


@dataclass(frozen=True)
class Source:
    """Keys and values of an encoder's positions, which ``step`` says."""

    rows: CacheRows
    step: Step


def make_rows(trace: Tracer, attention: Attention, step: Step, label: str, life: Life
              ) -> CacheRows:
    """Memory for keys and values of the encoder's positions; of STATE it outlasts a program."""
    forms = (Form.STORED,) if life == Life.STATE else None
    return CacheRows(*(trace.value(f"{label}{name}", step.rows, len(linear.weight), life,
                                   forms=forms)
                       for linear, name in ((attention.key, "keys"), (attention.value, "values"))))


def project_across(trace: Tracer, attention: Attention, encoded: Value, step: Step, label: str,
                   rows: CacheRows | None = None) -> Source:
    """Keys and values of a layer, of the encoder's results; into ``rows`` if given."""
    rows = rows or make_rows(trace, attention, step, label, Life.TEMPORARY)
    for linear, name, out in ((attention.key, "keys", rows.keys),
                              (attention.value, "values", rows.values)):
        trace.linear(encoded.whole, linear, out, f"{label}{name}")
    return Source(rows, step)


def attend_across(trace: Tracer, attention: Attention, x: Value, source: Source, step: Step,
                  label: str) -> Value:
    """The heads' results side by side, rows × (heads · d)."""
    queries = trace.value(f"{label}query", x.rows, len(attention.query.weight))
    trace.linear(x.whole, attention.query, queries, f"{label}query")
    sums = trace.value(f"{label}heads", x.rows, queries.columns)
    probabilities = trace.value(f"{label}probabilities", attention.heads * x.rows,
                                source.step.length)
    units = list(_units(trace, attention, queries.whole, source, sums, step))
    mix(trace, attention, [(units, probabilities)], sums, label)
    return sums


def _units(trace: Tracer, attention: Attention, queries: View, source: Source, sums: Value,
           step: Step) -> Iterator[Unit]:
    """Each head of each sequence."""
    size, shared = attention.head_size, attention.heads // attention.kv_heads
    length = source.step.length
    for sequence in range(step.sequences):
        mask = _mask(trace, attention, source.step, sequence)
        for head in range(attention.heads):
            own = sequence * step.length, head * size, step.length, size
            keys, values = (part.whole.block(sequence * length, head // shared * size, length, size)
                            for part in (source.rows.keys, source.rows.values))
            yield Unit(queries.block(*own), keys, values, sums.whole.block(*own), mask)


def _mask(trace: Tracer, attention: Attention, source: Step, sequence: int) -> View | None:
    """What hides the positions that only pad the encoder's sequence."""
    if source.valid is None or source.valid[sequence].all():
        return None
    return mask_of(trace, attention, ~source.valid[sequence][None])
