"""A factor that a command reads from memory when it is fetched."""

from dataclasses import dataclass

from compiler.program.tensor import Tensor
from hdl.spec.commands import COMMAND
from hdl.spec.formats import BF16_ENCODING

__all__ = ["Scalar"]

_NUMBERS = 1 << COMMAND["imm0"].bits


@dataclass(frozen=True)
class Scalar:
    """Item ``number`` of ``table``, counted row by row, in the place of a constant factor.

    ``table``: BF16 without gaps between its rows; a program has one. What a command before it
    writes to the item is waited for; what the command itself, or a later one, writes is not seen.
    """

    table: Tensor
    number: int = 0

    def __post_init__(self) -> None:
        table = self.table
        if table.encoding != BF16_ENCODING:
            raise ValueError(f"{table.name} must hold bf16 to give scalars, "
                             f"not {table.encoding.name}")
        if table.rows > 1 and table.stride != table.row_bytes:
            raise ValueError(f"stride of {table.name} must be {table.row_bytes} to give scalars, "
                             f"not {table.stride}")
        most = min(table.rows * table.columns, _NUMBERS)
        if not 0 <= self.number < most:
            raise ValueError(f"number of a scalar of {table.name} must be 0 to {most - 1}, "
                             f"not {self.number!r}")

    @property
    def item(self) -> Tensor:
        """The item as a tensor of its own."""
        row, column = divmod(self.number, self.table.columns)
        return self.table.block(row, column, 1, 1)
