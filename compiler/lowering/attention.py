"""Attention of one layer as commands: projections, scores, softmax, weighted sums of the values.

All heads' scores come first, then all heads' sums, so that only two fences stand between the
projections and the output, and neighbouring heads overlap.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.description import Attention
from compiler.checkpoints.inputs import Step
from compiler.lowering.emitter import WIDE, Emitter, columns_of
from compiler.lowering.fusion import Fusion
from compiler.lowering.rotary import rotate
from compiler.program.epilogue import Epilogue
from compiler.program.tensor import Tensor
from hdl.spec.formats import BFLOAT16
from hdl.spec.timing import row_fits
from sim.model.rounding import largest

__all__ = ["Cache", "attend"]


@dataclass(frozen=True)
class Cache:
    """Keys and values of all positions, rows by sequence and position; each step writes its own."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class _Unit:
    """Queries that share keys, values and mask; ``scores`` are their rows of all scores."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    sums: Tensor
    mask: Tensor | None
    first_row: int


def attend(low: Emitter, attention: Attention, x: Tensor, cache: Cache | None, step: Step,
           label: str) -> Tensor:
    """The heads' results side by side, rows × (heads · d), in the format's encoding.

    ``attention``'s rotary pairs lie in halves. With a ``cache`` the keys and values of this step
    are written to its rows and those of all earlier steps take part.
    """
    size = attention.head_size
    if cache is None:
        projected, queries, cache = _project_at_once(low, attention, x, label)
    else:
        queries = projected = _project(low, attention, x, cache, step, label)
    total = step.total
    scores = low.take(f"{label}probabilities", attention.heads * step.rows, total)
    sums = low.take(f"{label}heads", step.rows, attention.heads * size)
    units = list(_units(low, attention, queries, cache, sums, step))
    _softmax(low, units, scores, size ** -0.5, label)
    for unit in units:
        low.gemm(_rows(scores, unit), unit.values, unit.sums, b_transposed=False)
    low.give(projected, scores)
    return sums


def _project_at_once(low: Emitter, attention: Attention, x: Tensor, label: str
                     ) -> tuple[Tensor, Tensor, Cache]:
    """Queries, keys and values by one GEMM: its result, and the blocks of it."""
    linears = attention.query, attention.key, attention.value
    widths = [len(linear.weight) for linear in linears]
    weight = low.weight(f"{label}projections weight", *(linear.weight for linear in linears))
    bias = low.bias(f"{label}projections bias", *(linear.bias for linear in linears))
    out = low.take(f"{label}projections", x.rows, sum(widths))
    low.gemm(x, weight, out, Epilogue(bias=bias))
    queries, keys, values = columns_of(out, widths)
    return out, queries, Cache(keys, values)


def _project(low: Emitter, attention: Attention, x: Tensor, cache: Cache, step: Step, label: str
             ) -> Tensor:
    """The queries; keys and values go to their rows of the cache."""
    rows = step.past, 0, step.rows
    keys = cache.keys.block(*rows, cache.keys.columns)
    values = cache.values.block(*rows, cache.values.columns)
    queries = low.take(f"{label}query", step.rows, len(attention.query.weight))
    parts = [(attention.query, queries, "query"), (attention.key, keys, "key")]
    if attention.rotary is None:
        for linear, out, name in parts:
            low.linear(x, linear, out, f"{label}{name}")
    else:
        plain = [low.take(f"{label}{name} unrotated", *out.shape, WIDE) for _, out, name in parts]
        for (linear, _, name), out in zip(parts, plain, strict=True):
            low.linear(x, linear, out, f"{label}{name}")
        rotate(low, attention.rotary, attention.head_size,
               [(given, out, f"{label}{name}")
                for (_, out, name), given in zip(parts, plain, strict=True)], step)
        low.give(*plain)
    # Last: the array has work while the lanes rotate.
    low.linear(x, attention.value, values, f"{label}value")
    return queries


def _units(low: Emitter, attention: Attention, queries: Tensor, cache: Cache, sums: Tensor,
           step: Step) -> Iterator[_Unit]:
    """Each head of each sequence; of one position, all heads that share keys and values."""
    size, shared = attention.head_size, attention.heads // attention.kv_heads
    at_once = shared if step.length == 1 else 1
    for sequence in range(step.sequences):
        mask = _mask(low, attention, step, sequence)
        own = sequence * step.total, step.total
        for head in range(0, attention.heads, at_once):
            def part(tensor: Tensor, sequence: int = sequence, head: int = head) -> Tensor:
                block = tensor.block(sequence * step.length, head * size, step.length,
                                     at_once * size)
                if at_once == 1:
                    return block
                return replace(block, rows=at_once, columns=size, stride=size * block.item_bytes)

            def read(tensor: Tensor, head: int = head, own: tuple[int, int] = own) -> Tensor:
                return tensor.block(own[0], head // shared * size, own[1], size)

            yield _Unit(part(queries), read(cache.keys), read(cache.values), part(sums), mask,
                        (sequence * attention.heads + head) * step.length)


def _mask(low: Emitter, attention: Attention, step: Step, sequence: int) -> Tensor | None:
    """What is added to a head's scores: 0, and the most negative BF16 where a position does not
    see another; 1×S where only padding is hidden."""
    hidden = np.zeros((1, step.total), bool)
    if step.valid is not None:
        hidden |= ~step.valid[sequence, :step.total]
    if attention.causal and step.length > 1:
        seen = np.arange(step.past, step.total)[:, None]
        hidden = hidden | (np.arange(step.total) > seen)
    if not hidden.any():
        return None
    if low.config.fmt == "bf16" and not row_fits(low.config, step.total):
        raise ValueError(f"a mask in FP32 lanes takes at most {low.widest()} positions in this "
                         f"build, not {step.total}; a larger acc_depth takes more")
    return low.derived(("mask", hidden.tobytes(), hidden.shape),
                       lambda: np.where(hidden, -largest(BFLOAT16), 0.0), WIDE,
                       f"mask of {step.total} positions")


def _rows(tensor: Tensor, unit: _Unit) -> Tensor:
    return tensor.block(unit.first_row, 0, unit.queries.rows, tensor.columns)


def _softmax(low: Emitter, units: list[_Unit], out: Tensor, scale: float, label: str) -> None:
    """Every unit's softmax(scale · QKᵀ + mask) into its rows of ``out``, by the fusion level."""
    if low.level.fuses(Fusion.ACTIVATION):
        for unit in units:
            low.gemm(unit.queries, unit.keys, _rows(out, unit),
                     Epilogue(scale=scale, bias=unit.mask, softmax=True))
        return
    scaled = low.take(f"{label}scores", *out.shape)
    if low.level.fuses(Fusion.SCALING):
        for unit in units:
            low.gemm(unit.queries, unit.keys, _rows(scaled, unit),
                     Epilogue(scale=scale, bias=unit.mask))
    else:
        plain = low.take(f"{label}unscaled scores", *out.shape)
        for unit in units:
            low.gemm(unit.queries, unit.keys, _rows(plain, unit))
        if all(unit.mask is None for unit in units):
            low.builder.vector(plain, scaled, Epilogue(scale=scale))
        else:
            for unit in units:
                low.builder.vector(_rows(plain, unit), _rows(scaled, unit),
                                   Epilogue(scale=scale, bias=unit.mask))
        low.give(plain)
    low.builder.vector(scaled, out, Epilogue(softmax=True))
    low.give(scaled)
