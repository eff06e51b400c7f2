"""Tensors that commands in flight work on, and when the next command must wait for them."""

from collections.abc import Sequence

from compiler.program.tensor import Tensor, overlap

__all__ = ["Hazards", "in_place"]

_Place = tuple[int, int, Tensor]  # first byte, end; thousands are looked at for every command


class Hazards:
    """What the commands since the last fence read and write; they may all still run."""

    def __init__(self) -> None:
        self._reads: list[_Place] = []
        self._writes: list[_Place] = []

    def race(self, reads: Sequence[Tensor], writes: Sequence[Tensor],
             replaced: Sequence[Tensor] = (), scalars: Sequence[Tensor] = ()) -> bool:
        """Whether a command that ``reads`` and ``writes`` would race with one in flight.

        ``replaced``: operands whose place the result may take. ``scalars`` are read when the
        command is fetched: what it or a later one writes comes after that. ``ValueError`` where
        the command would overwrite another operand of its own.
        """
        for written in writes:
            for other in reads:
                if overlap(written, other) and other not in replaced:
                    raise ValueError(f"{written.name} must not overlap the operand {other.name}")
        hazards = [([*reads, *scalars], self._writes), (writes, self._writes),
                   (writes, self._reads)]
        return any(_meet(x, before) for now, before in hazards for x in now)

    def issued(self, reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
        """A command that ``reads`` and ``writes`` is in flight."""
        self._reads += map(_place, reads)
        self._writes += map(_place, writes)

    def settled(self) -> None:
        """No command is in flight."""
        self._reads, self._writes = [], []


def _place(tensor: Tensor) -> _Place:
    return tensor.address, tensor.address + tensor.span, tensor


def _meet(tensor: Tensor, others: list[_Place]) -> bool:
    first, end, _ = _place(tensor)
    return any(start < end and first < stop and overlap(tensor, other)
               for start, stop, other in others)


def in_place(out: Tensor, operand: Tensor) -> bool:
    """Whether ``out`` takes the place of ``operand`` item by item: every item is read before it is
    written where the operand is the command's own X, Y0 or Y1 and only its last instruction
    stores, neither transposed nor one item per row."""
    return (out.address == operand.address and out.shape == operand.shape
            and (out.stride == operand.stride or out.rows == 1)
            and out.item_bytes == operand.item_bytes)
