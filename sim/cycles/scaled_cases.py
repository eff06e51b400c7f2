"""Commands that builds alone have whose rows have scales, for ``sim.cycles.cases``."""

from collections.abc import Callable
from dataclasses import replace

from compiler.lowering import lists
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from hdl.spec.commands import Destination, Operand
from hdl.spec.timing import row_fits

__all__ = ["scaled_cases"]

_TWO = (Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
        Instruction(multiply=Operand.Y, y=1, destination=Destination.MEMORY))


def _product(m: int, k: int, n: int, *, rows: int | None = None, transposed: bool = False
             ) -> Callable[[ProgramBuilder], None]:
    """A GEMM, or a VECTOR without ``k``, × an item for each row, or one of ``rows``, × a row."""
    def emit(builder: ProgramBuilder) -> None:
        given = Epilogue(bias=builder.empty(m if rows is None else rows, 1, "bf16"),
                         y0_column=True, y1=builder.empty(1, n, "bf16"), instructions=_TWO)
        out = builder.empty(*((n, m) if transposed else (m, n)), "bf16")
        if k:
            builder.gemm(builder.empty(m, k), builder.empty(k, n), out, given,
                         out_transposed=transposed)
        else:
            builder.vector(builder.empty(m, n, "bf16"), out, given, out_transposed=transposed)
    return emit


def _streamed(m: int, n: int) -> Callable[[ProgramBuilder], None]:
    """Rows that need not stay on chip × an item for each."""
    def emit(builder: ProgramBuilder) -> None:
        builder.vector(builder.empty(m, n, "bf16"), builder.empty(m, n, "bf16"), Epilogue(
            bias=builder.empty(m, 1, "bf16"), y0_column=True, instructions=(
                replace(_TWO[0], destination=Destination.MEMORY),)))
    return emit


def _codes(m: int, n: int) -> Callable[[ProgramBuilder], None]:
    """Codes of rows, and their magnitudes where they stay on chip."""
    def emit(builder: ProgramBuilder) -> None:
        x, items = builder.empty(m, n, "bf16"), None
        if row_fits(builder.config, n):
            items = builder.empty(m, 1, "bf16")
        builder.vector(x, builder.empty(m, n), lists.codes_by_row(127.0, items))
    return emit


def _softmax(m: int, k: int, n: int, *, masked: bool = False, transposed: bool = False
             ) -> Callable[[ProgramBuilder], None]:
    """Codes of exponentials, and what their rows' sums divide by."""
    def emit(builder: ProgramBuilder) -> None:
        given = lists.deferred_softmax(0.25, builder.empty(m, 1, "bf16"), mask=builder.empty(
            m, n, "bf16") if masked else None)
        out = builder.empty(*((n, m) if transposed else (m, n)))
        builder.gemm(builder.empty(m, k), builder.empty(n, k), out, given, b_transposed=True,
                     out_transposed=transposed)
    return emit


def _biased(m: int, k: int, n: int) -> Callable[[ProgramBuilder], None]:
    """× an item for each row, × a row + the one that follows it."""
    def emit(builder: ProgramBuilder) -> None:
        builder.gemm(builder.empty(m, k), builder.empty(k, n), builder.empty(m, n, "bf16"),
                     Epilogue(bias=builder.empty(m, 1, "bf16"), y0_column=True,
                              y1=builder.empty(2, n, "bf16"), instructions=(
                                  _TWO[0], replace(_TWO[1], destination=Destination.BUFFER),
                                  Instruction(add=Operand.Y, y=1, y_second=True,
                                              destination=Destination.MEMORY))))
    return emit


def _linear(m: int, k: int, n: int, *, codes: bool) -> Callable[[ProgramBuilder], None]:
    """A linear layer's result as codes with magnitudes of rows, or in BF16 beside these."""
    def emit(builder: ProgramBuilder) -> None:
        rows, pair, tops = (builder.empty(*shape, "bf16") for shape in ((m, 1), (2, n), (m, 1)))
        given = (lists.linear_codes(127.0, rows, pair, tops) if codes
                 else lists.linear_magnitudes(rows, pair, tops))
        out = builder.empty(m, n, None if codes else "bf16")
        builder.gemm(builder.empty(m, k), builder.empty(n, k), out, given, b_transposed=True)
    return emit


def scaled_cases(d: int) -> dict[str, Callable[[ProgramBuilder], None]]:
    """By name, for an array of ``d``."""
    return {
        "gemm by rows and columns": _product(45, 50, 60),
        "gemm by rows, one K-tile": _product(70, d, 56),
        "gemm by rows, transposed": _product(30, 40, 35, transposed=True),
        "gemm by one item": _product(30, 40, 35, rows=1),
        "gemm by rows and columns, bias": _biased(45, 50, 60),
        "gemm codes by row": _linear(45, 50, 60, codes=True),
        "gemm magnitudes by row": _linear(45, 50, 60, codes=False),
        "gemm deferred softmax": _softmax(45, 20, 50),
        "gemm deferred softmax, one K-tile": _softmax(70, d, 60),
        "gemm deferred softmax, masked": _softmax(45, 20, 50, masked=True),
        "vector by rows": _product(33, 0, 45),
        "vector by rows of one item": _product(20, 0, 1),
        "vector by rows, short and many": _product(150, 0, d),
        "vector by rows, streamed": _streamed(3, 513 * d),
        "vector codes by row": _codes(40, 60),
        "vector codes by row, streamed": _codes(3, 500 * d),
    }
