"""What ops work on: values, how they lie in memory and how long, and views of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np

from compiler.lowering.fusion import Fusion

__all__ = ["Counts", "Form", "Life", "Read", "Use", "Value", "View"]


class Form(Enum):
    """How a value lies in memory: in the format's encoding, in BF16, in the encoding that the
    format has for gradients, or as row numbers."""

    STORED = "stored"
    WIDE = "bf16"
    GRADIENT = "gradient"
    INDICES = "index"

    @staticmethod
    def in_order() -> "tuple[Form, ...]":
        """The first of a value's forms is what its op writes, others are copies."""
        return Form.WIDE, Form.STORED, Form.GRADIENT, Form.INDICES


class Life(Enum):
    """How long a value's memory is its own."""

    CONSTANT = auto()
    """In the image from the start: parameters, inputs, tables."""
    STATE = auto()
    """From the start to the end, written little by little: keys and values of all positions."""
    KEPT = auto()
    """As STATE, and never a result: another form of one."""
    RESULT = auto()
    """From its op to the end; a run leaves it."""
    TEMPORARY = auto()
    """From its op to its last reader; a result where everything is kept."""
    SCRATCH = auto()
    """As TEMPORARY, and never a result."""


class Use(Enum):
    """What reads a value, by which it is settled whether it is rounded to the format first."""

    OPERAND = "operand"
    """Of a GEMM: always rounded."""
    SCALING = "scaling"
    ACTIVATION = "activation"
    NORM = "norm"
    RESIDUAL = "residual"
    LANES = "lanes"
    """Anything else: as exact as the lanes or BF16 have it."""

    def form(self, level: Fusion) -> Form:
        """The form that ``level`` has it read in."""
        if self == Use.OPERAND:
            return Form.STORED
        return Form.WIDE if self == Use.LANES or level.fuses(Fusion[self.name]) else Form.STORED


@dataclass(frozen=True, eq=False)
class Value:
    """A matrix by name, ``rows`` × ``columns`` items; each is a value of its own (compared by
    identity).

    ``forms``: those that it has whoever reads it; ``None``: what its readers need. ``labelled``:
    its tensors are called by name and encoding. ``make``: a constant's contents, rows × columns.
    ``room``: columns after each row that are ``beside`` it in memory; such a value has one form.
    ``counts``: of codes what they stand for. ``holds``: values that its rows are.
    """

    name: str
    rows: int
    columns: int
    life: Life = Life.TEMPORARY
    forms: tuple[Form, ...] | None = None
    labelled: bool = False
    make: Callable[[], np.ndarray] | None = field(default=None, repr=False)
    room: int = 0
    counts: "Counts | None" = None
    holds: tuple["Value", ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def stride(self) -> int:
        """Items from a row to the next."""
        return self.columns + self.room

    @property
    def whole(self) -> "View":
        return View(self, 0, self.rows, self.columns, self.stride)

    @property
    def beside(self) -> "View":
        """The room alone."""
        return View(self, self.columns, self.rows, self.room, self.stride)

    @property
    def widened(self) -> "View":
        """Rows and what is beside them."""
        return View(self, 0, self.rows, self.stride, self.stride)


@dataclass(frozen=True)
class Counts:
    """A code stands for ``factor``, times the item of ``items`` for its row where there are some,
    or the only one."""

    factor: float
    items: Value | None = None


@dataclass(frozen=True)
class View:
    """``rows`` × ``columns`` items of ``value`` from item ``offset`` on, rows ``stride`` items
    apart. ``form``: which of the value's tensors, once ``fuse`` has settled that."""

    value: Value
    offset: int
    rows: int
    columns: int
    stride: int
    form: Form | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def is_whole(self) -> bool:
        return (self.offset == 0 and self.shape == self.value.shape
                and self.stride == self.value.stride)

    def block(self, row: int, column: int, rows: int, columns: int) -> "View":
        """The ``rows`` × ``columns`` items from (``row``, ``column``) on."""
        if min(row, column) < 0 or row + rows > self.rows or column + columns > self.columns:
            raise ValueError(f"block of {self.value.name} must lie inside {self.rows}×"
                             f"{self.columns}, not {rows}×{columns} from ({row}, {column})")
        return replace(self, offset=self.offset + row * self.stride + column, rows=rows,
                       columns=columns)

    def row_block(self, row: int, rows: int) -> "View":
        return self.block(row, 0, rows, self.columns)

    def split(self, width: int) -> "View":
        """Each row as rows of ``width`` items, one after the other: of S × (heads · width) the
        heads as rows. One row, or rows without gaps."""
        if self.columns % width or (self.rows > 1 and self.stride != self.columns):
            raise ValueError(f"{self.value.name} must have rows without gaps of {width} items "
                             f"each, not {self.columns} with stride {self.stride}")
        return replace(self, rows=self.rows * self.columns // width, columns=width, stride=width)

    def joined(self, count: int) -> "View":
        """``count`` rows side by side as one; rows without gaps."""
        if self.rows % count or self.stride != self.columns:
            raise ValueError(f"{self.value.name} must have a multiple of {count} rows without "
                             f"gaps, not {self.rows} of {self.columns} with stride {self.stride}")
        return replace(self, rows=self.rows // count, columns=count * self.columns,
                       stride=count * self.stride)

    def every(self, step: int, first: int) -> "View":
        """Rows ``first``, ``first`` + ``step`` and so on."""
        return replace(self.row_block(first, 1), rows=-(-(self.rows - first) // step),
                       stride=step * self.stride)

    def __str__(self) -> str:
        form = f" {self.form.value}" if self.form is not None else ""
        place = "" if self.is_whole else f"+{self.offset}/{self.stride}"
        return f"{self.value.name}[{self.rows}×{self.columns}{place}{form}]"


@dataclass(frozen=True)
class Read:
    """A view that an op reads, and what for."""

    view: View
    use: Use
