"""The tensors that a command names: their shapes, and which fields say what of them."""

from dataclasses import dataclass

from hdl.spec.command_fields import COMMAND, CommandField, Role
from hdl.spec.instructions import INSTRUCTION
from hdl.spec.opcodes import Opcode, When

__all__ = ["LISTED", "TENSORS", "Shape", "TensorSpec", "roles"]


@dataclass(frozen=True)
class Shape:
    """What a tensor is in commands of ``when``: how it is called, its ``rows`` and ``columns``.

    Both are named by the field that counts them, or a number. ``client``: of
    ``hdl.spec.registers.CLIENTS``, whose transfers it takes. ``indices``: unsigned words of
    ``hdl.spec.timing.INDEX_BYTES`` without gaps between them, at any address, whatever the stride.
    """

    label: str
    client: str
    rows: str | int
    columns: str | int
    when: When = When()
    indices: bool = False


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of commands.

    ``shapes``: the first whose ``when`` holds counts; where none does, the command has no such
    tensor. COLUMN leaves one column of it, TRANSPOSED then exchanges rows and columns.
    One that has an OFFSET holds BF16. ``written``: by the accelerator. An item of two bytes stands
    at an even address with an even stride, else MISALIGNED.
    """

    name: str
    shapes: tuple[Shape, ...]
    written: bool = False


_VECTOR = (Opcode.VECTOR,)
_GEMM = When((Opcode.GEMM,))
_GATHER = When(_VECTOR, "x_gather")

TENSORS: dict[str, TensorSpec] = {tensor.name: tensor for tensor in (
    TensorSpec("a", (Shape("A", "operands", "m", "k", _GEMM),
                     Shape("X", "operands", "k", "n", _GATHER),
                     Shape("X", "operands", "m", "n", When(_VECTOR)))),
    TensorSpec("b", (Shape("B", "weights", "k", "n", _GEMM),
                     Shape("indices", "operands", "m", 1, _GATHER, indices=True))),
    TensorSpec("c", (Shape("C", "results", "m", "n"),), written=True),
    TensorSpec("d", (Shape("D", "results", 1, "m"),), written=True),
    TensorSpec("y0", (Shape("Y0", "y", "m", "n"),)),
    TensorSpec("y1", (Shape("Y1", "y", "m", "n"),)),
)}

LISTED = frozenset(
    name for field in INSTRUCTION.values() if field.kind is not None
    for member in field.kind for name in member.meaning.tensors)
"""Tensors that instructions name: a command whose list does not has no use for them."""


def roles(tensor: str) -> dict[Role, CommandField]:
    """The fields that say something of ``tensor``."""
    return {field.role: field for field in COMMAND.values()
            if field.role is not None and field.tensor == tensor}
