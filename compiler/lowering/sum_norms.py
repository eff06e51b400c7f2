"""LayerNorm of a linear layer's result and what a residual connection carries past it.

On chip in one command, and, where sums are long, in turns with the linear layer. The lanes take
long on a norm, which waits for all columns of a row, and the array on a sum: rows are taken in
halves and the layer's outputs in pieces, and while the array is on pieces of the second half, the
lanes are on rows of the first. Commands go in order and there are two accumulation banks: each
block of rows costs the array the time in which the lanes empty the piece before it.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from compiler.lowering import lists
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import AddResidual, Listed, Normalise
from compiler.lowering.ops import Gemm, Op, OpList, Product, Vector
from compiler.lowering.projected import ProjectedHeads
from compiler.lowering.values import Read, Use, View
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_columns

__all__ = ["SumNorms"]

_ROWS = 8  # tiles of rows at least, so that halves leave the bus to others while weights come twice
_DEPTH = 16  # tiles of a sum at least: the array is as long on it as the lanes on a norm, and again


class SumNorms(ProjectedHeads):
    """``ProjectedHeads`` that knows such norms."""

    def __init__(self, listed: OpList, shared: CodedValues, config: AcceleratorConfig) -> None:
        super().__init__(listed, shared)
        self._config = config

    @staticmethod
    def _is_sum_norm(first: Op, second: Vector) -> bool:
        norm = second.then[0]
        return (isinstance(first, Vector) and not first.transposed and len(first.then) == 1
                and isinstance(first.then[0], AddResidual) and len(first.then[0].y) == 1
                and isinstance(norm, Normalise) and norm.shift is not None and not norm.affine)

    def _sum_norm(self, first: Op, second: Vector, rows: range | None = None) -> None:
        """The norm of a sum, or of ``rows`` of it."""
        norm = second.then[0]
        assert isinstance(first, Vector) and isinstance(norm, Normalise), "as was asked for"
        (y,), = (lane_op.y for lane_op in first.then if isinstance(lane_op, AddResidual))
        assert y is not None and norm.shift is not None, "as was asked for"
        pair = self._declare(self._shared.pair(f"{norm.gain.value.name} and shift",
                                               norm.gain.value, norm.shift.value))
        eps, l1, twice, name = norm.eps, norm.l1, norm.twice, f"{norm} of the sum"

        def own(view: View) -> View:
            return self._view(view if rows is None else view.row_block(rows.start, len(rows)))

        self._ops.append(Vector(own(second.out), own(first.x), then=(Listed(
            name, lambda tensors: lists.sum_norm(tensors[0], tensors[1], eps, l1, twice),
            ((Read(own(y), Use.LANES), Read(pair.whole, Use.LANES)),)),)))

    def _linear_and_norm(self, ops: Sequence[Op]) -> int:
        """How many of the first of ``ops`` come in turns: 4, or 0 where they do not."""
        first, second, third, fourth = [*ops[:4], None, None, None, None][:4]
        if not (isinstance(first, Gemm) and isinstance(second, Vector) and third is not None
                and self._follows(third, second) and self._follows(fourth, third)
                and self._is_sum_norm(third, fourth)):
            return 0
        bias, product = self._bias(first, second), first.products[0]
        if bias is None or not self._suits(*second.out.shape, product.a.columns):
            return 0

        def piece(rows: range, columns: range) -> None:
            to = second.out.block(rows.start, columns.start, len(rows), len(columns))
            weight = self._shared.rows(product.b.value, columns)
            self._linear(replace(first, out=to, products=(Product(
                product.a.row_block(rows.start, len(rows)), weight.whole, to),)),
                self._shared.columns(bias, columns))

        rows, width = second.out.shape
        half, size = rows // 2, self._at_once(rows, width)
        blocks = [range(start, min(start + size, half)) for start in range(0, half, size)]
        tiles, dim = width // self._config.dim, self._config.dim
        ends = [tiles * number // len(blocks) * dim for number in range(len(blocks) + 1)]
        pieces = [range(*own) for own in pairwise(ends)]
        for own in pieces:
            piece(range(half), own)
        for block, own in zip(blocks, pieces, strict=True):
            self._sum_norm(third, fourth, block)
            piece(range(half, rows), own)
        self._sum_norm(third, fourth, range(half, rows))
        self._written(fourth.out)
        return 4

    def _at_once(self, rows: int, width: int) -> int:
        """Rows of a norm that are in a bank together, of half of them."""
        fit = 1 << (row_columns(self._config) // width).bit_length() - 1
        return min(fit, rows // 2)

    def _suits(self, rows: int, width: int, k: int) -> bool:
        """Whether turns gain time: both halves are whole tiles, sums long enough, and a piece of
        more than a tile goes with each block of the norm."""
        dim = self._config.dim
        if rows % (2 * dim) or rows < _ROWS * dim or width % dim or width > row_columns(
                self._config) or k * self._config.lanes < _DEPTH * dim * dim:
            return False
        return width // dim >= 2 * -(-rows // 2 // self._at_once(rows, width))
