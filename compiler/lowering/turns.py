"""Third pass: scores of an attention in turns with the output projection of earlier queries.

A masked softmax keeps the lanes busy for longer than its scores keep the array. Commands go in
order, and there are two accumulation banks: while the lanes are on a block of scores in the one,
the array can fill the other with a part of a product whose sums are long. Queries come in spans
(``compiler.lowering.units``); the projection of those before is such a product: it waits for
nothing that the scores give.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

from compiler.lowering.command import Command
from compiler.lowering.lane_ops import Add, LaneOp, Softmax
from compiler.lowering.ops import Gemm, Op, OpList
from compiler.lowering.polynomial_ops import Polynomial
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import BLOCK_TILES, cut, row_fits

__all__ = ["in_turns", "parts", "take_turns"]

_BUS = 0.75  # beats a cycle

Named = tuple[Command, str]


def take_turns(fused: OpList, config: AcceleratorConfig) -> OpList:
    """``fused`` with every attention that is to come in turns: scores of all spans, then their
    sums, then the projection."""
    found = []
    for index, op in enumerate(fused.ops):
        spans = _spans(fused.ops[:index], op)
        if len(spans) > 1 and isinstance(op, Gemm) and _sizes(config, spans, op) is not None:
            found.append(range(index - 2 * len(spans), index + 1))
    return replace(fused, turns=tuple(found))


@dataclass(frozen=True)
class _Span:
    """``scores`` and ``sums`` of ``rows`` of the queries."""

    scores: Gemm
    sums: Gemm
    rows: range


def _spans(before: Sequence[Op], op: Op) -> list[_Span]:
    """The spans whose sums ``op`` projects, which come right before it; none where it does not, or
    where they are not the rows of one sequence, in order."""
    if not isinstance(op, Gemm) or op.blocks != 1 or op.a_transposed:
        return []
    whole, count = op.products[0].a, 0
    while count < len(before) and before[-1 - count].out.value is whole.value:
        count += 1
    ops = before[max(len(before) - 2 * count, 0):]
    pairs = zip(ops[:count], ops[count:], strict=True) if len(ops) == 2 * count else ()
    found = [_Span(scores, sums, _rows(sums)) for scores, sums in pairs
             if isinstance(scores, Gemm) and isinstance(sums, Gemm)
             and isinstance(([None, *scores.then])[-1], (Polynomial, Softmax))
             and all(product.a.value is scores.out.value for product in sums.products)]
    ends = [0, *(span.rows.stop for span in found)]
    if len(found) != count or [span.rows.start for span in found] != ends[:-1] or (
            not whole.is_whole or ends[-1] != whole.rows):
        return []
    return found


def _rows(sums: Gemm) -> range:
    """The rows that all products of ``sums`` give; none where they give others each."""
    rows = {range(own.offset // own.stride, own.offset // own.stride + own.rows)
            for own in (product.out for product in sums.products)}
    return rows.pop() if len(rows) == 1 else range(0)


def _sizes(config: AcceleratorConfig, spans: Sequence[_Span], op: Gemm
           ) -> list[tuple[int, int]] | None:
    """Rows and columns of parts of the projection of every span but the last; ``None`` where turns
    gain nothing: the array is longer on some scores than the lanes, or parts are too few, too short
    or too much for the bus."""
    found = []
    for before, span in pairwise(spans):
        product = span.scores.products[0]
        rows, columns, k = *product.out.shape, product.a.columns
        if not row_fits(config, columns):
            return None
        block = min(rows, _block(config, rows, columns, k))
        lanes = _passes(span.scores.then) * -(-columns // config.lanes) * block
        size = parts(config, op, len(before.rows),
                     len(span.scores.products) * -(-rows // block), lanes)
        if size is None or lanes <= -(-k // config.dim) * -(-columns // config.dim) * block:
            return None
        found.append(size)
    return found


def _passes(then: Sequence[LaneOp]) -> int:
    """Of the lanes over scores."""
    if isinstance(then[-1], Polynomial):
        return 4 if then[-1].degree == 4 else 3
    # The array finds the rows' maxima where nothing is added to the scores.
    return 3 if any(isinstance(lane_op, Add) for lane_op in then) else 2


def _block(config: AcceleratorConfig, rows: int, columns: int, k: int) -> int:
    """Rows of scores that are in a bank at once."""
    return 1 << cut(config, gemm=True, rowwise=True, stored=True, m=rows, k=k,
                    n=columns).block_log2


def parts(config: AcceleratorConfig, op: Gemm, rows: int, turns: int, least: int
          ) -> tuple[int, int] | None:
    """Rows and columns of the largest parts of ``rows`` rows of a product that are as many as
    ``turns``; ``None`` where none are that many, keep the array busy for ``least`` cycles, and
    leave the bus to others for a quarter of them."""
    dim = config.dim
    height = width = BLOCK_TILES * dim
    while height >= dim:
        cycles = -(-op.products[0].a.columns // dim) * height * width // dim
        beats = -(-op.products[0].a.columns // dim) * config.word_bytes * (height + width) // (
            config.bus_bytes)
        if -(-rows // height) * -(-op.out.columns // width) >= turns:
            return (height, width) if cycles >= least and beats <= _BUS * cycles else None
        height, width = (height, width // 2) if width > dim else (height // 2, width)
    return None


def in_turns(config: AcceleratorConfig, ops: Sequence[Op], commands: Sequence[Sequence[Named]]
             ) -> Iterator[Named]:
    """The ``commands`` of each of ``ops``, an attention and its projection, with their names: of
    every span the scores, in turns with the projection of the span before, and the sums."""
    *before, op = ops
    assert isinstance(op, Gemm)
    spans, whole = _spans(before, op), commands[-1]
    every, sums = commands[:len(spans)], commands[len(spans):-1]
    yield from chain(every[0], sums[0])
    for done, scores, own, (height, width) in zip(
            spans, every[1:], sums[1:], _sizes(config, spans, op) or (), strict=False):
        blocks = [(block, label) for command, label in scores for block in command.in_rows(
            _block(config, *command.out.shape, command.a.columns))]
        pieces = [(piece, name) for command, name in whole
                  for rows in command.of_rows(done.rows).in_rows(height)
                  for piece in rows.in_columns(width)]
        yield from chain(_alternately(blocks, pieces), own)
    yield from ((command.of_rows(spans[-1].rows), name) for command, name in whole)


def _alternately(blocks: Sequence[Named], pieces: Sequence[Named]) -> Iterator[Named]:
    """Each block, and after it its share of the pieces."""
    done = 0
    for index, block in enumerate(blocks, 1):
        yield block
        last = len(pieces) * index // len(blocks)
        yield from pieces[done:last]
        done = last
