"""Where operands and results lie that a command names by others: what follows Y, D beside C."""

from compiler.program.tensor import Tensor

__all__ = ["first_of_two", "second_result"]

_REACH = 1 << 31


def first_of_two(y: Tensor, columns: int) -> Tensor:
    """The first of two operands of ``columns`` that lie behind one address: the columns of ``y``
    side by side, or its two rows; ``ValueError``."""
    if y.columns == 2 * columns:
        return y.block(0, 0, y.rows, columns)
    if (y.rows, y.columns) != (2, columns) or y.stride != y.row_bytes:
        raise ValueError(f"{y.name} must be 2×{columns} without gaps, or have {2 * columns} "
                         f"columns, to be taken with what follows it, not {y.rows}×{y.columns}")
    return y.block(0, 0, 1, columns)


def second_result(out: Tensor, items: Tensor, rows: int) -> dict[str, int]:
    """The field that places ``items``, one of each of the ``rows``, by the result ``out``;
    ``ValueError``."""
    offset = items.address - out.address
    if items.shape not in ((rows, 1), (1, rows)) or (items.rows > 1 and items.stride != 2):
        raise ValueError(f"{items.name} must be {rows}×1 without gaps, or 1×{rows}, not "
                         f"{items.rows}×{items.columns} with stride {items.stride}")
    if items.item_bytes != 2:
        raise ValueError(f"{items.name} must hold bf16, not {items.encoding.name}")
    if not -_REACH <= offset < _REACH:
        raise ValueError(f"{items.name} must lie within 2 GiB of {out.name}, not {offset} bytes")
    return {"d_offset": offset % (2 * _REACH)}
