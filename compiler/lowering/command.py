"""A GEMM, VECTOR or gather in full, and parts of it: what ``emit`` hands to the builder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.tensor import Tensor

__all__ = ["Command", "columns_of", "rows_of"]


@dataclass(frozen=True)
class Command:
    """out = epilogue(A·B), or of X = A alone where there is no ``b``; with ``indices`` X is rows of
    the table A.

    ``out_transposed`` is of what has no B; the others as ``ProgramBuilder.gemm`` has them.
    """

    a: Tensor
    out: Tensor
    epilogue: Epilogue
    b: Tensor | None = None
    indices: Tensor | None = None
    a_transposed: bool = False
    b_transposed: bool = False
    out_transposed: bool = False

    @property
    def macs(self) -> int:
        if self.b is None:
            return 0
        return self.out.rows * self.out.columns * (
            self.a.rows if self.a_transposed else self.a.columns)

    def issue(self, builder: ProgramBuilder) -> None:
        if self.b is not None:
            builder.gemm(self.a, self.b, self.out, self.epilogue, a_transposed=self.a_transposed,
                         b_transposed=self.b_transposed)
        elif self.indices is not None:
            builder.gather(self.a, self.indices, self.out, self.epilogue)
        else:
            builder.vector(self.a, self.out, self.epilogue, out_transposed=self.out_transposed)

    def of_rows(self, rows: range) -> "Command":
        """The part of a GEMM or VECTOR that gives ``rows``, where A is as it is."""
        return replace(self, a=rows_of(self.a, rows), out=rows_of(self.out, rows),
                       epilogue=_cut(self.epilogue, rows_of, rows))

    def in_rows(self, size: int) -> Iterator["Command"]:
        """The same in commands of ``size`` rows."""
        for first in range(0, self.out.rows, size):
            yield self.of_rows(range(first, min(first + size, self.out.rows)))

    def in_columns(self, size: int) -> Iterator["Command"]:
        """The same in commands of ``size`` columns, of a GEMM."""
        assert self.b is not None
        for first in range(0, self.out.columns, size):
            columns = range(first, min(first + size, self.out.columns))
            cut = rows_of if self.b_transposed else columns_of
            yield replace(self, b=cut(self.b, columns), out=columns_of(self.out, columns),
                          epilogue=_cut(self.epilogue, columns_of, columns))


def _cut(epilogue: Epilogue, cut: Callable[[Tensor, range], Tensor], part: range) -> Epilogue:
    """``epilogue`` of a part; an operand of one row is the same for all rows."""
    def own(y: Tensor | None) -> Tensor | None:
        return y if y is None or (cut is rows_of and y.rows == 1) else cut(y, part)

    return replace(epilogue, bias=own(epilogue.bias), y1=own(epilogue.y1))


def columns_of(tensor: Tensor, columns: range) -> Tensor:
    """Those columns; the tensor itself where it has no others."""
    if len(columns) == tensor.columns:
        return tensor
    return tensor.block(0, columns.start, tensor.rows, len(columns))


def rows_of(tensor: Tensor, rows: range) -> Tensor:
    """Those rows; the tensor itself where it has no others."""
    if len(rows) == tensor.rows:
        return tensor
    return tensor.block(rows.start, 0, len(rows), tensor.columns)
