"""Where tensors that live for a while stand: memory that is given back serves later tensors."""

from dataclasses import dataclass

from compiler.program.builder import ProgramBuilder
from compiler.program.tensor import Tensor

__all__ = ["Arena"]


@dataclass
class _Gap:
    address: int
    size: int


class Arena:
    """Room for temporary tensors in a builder's memory.

    ``take`` and ``give`` follow the order of the commands: whoever takes what was given back
    writes it behind the commands that still used it, which the builder's fences see to. Gaps are
    reused longest unused first, so that such fences are rarely further ones. ``reuse`` False gives
    every tensor memory of its own, for those who want to look at all of them behind a run.
    """

    def __init__(self, builder: ProgramBuilder, reuse: bool = True) -> None:
        self._builder = builder
        self._reuse = reuse
        self._gaps: list[_Gap] = []
        self._sizes: dict[int, int] = {}

    @property
    def taken(self) -> int:
        """Tensors that nobody has given back."""
        return len(self._sizes)

    def take(self, rows: int, columns: int, encoding: str | None, name: str) -> Tensor:
        """A dense tensor at a multiple of the bus width, contents undefined."""
        kind = self._builder.encoding(encoding)
        bus = self._builder.config.bus_bytes
        size = -(-rows * columns * kind.bits // 8 // bus) * bus
        fitting = next((gap for gap in self._gaps if gap.size >= size), None)
        if fitting is None:
            tensor = self._builder.empty(rows, columns, encoding, name=name)
        else:
            tensor = Tensor(name, fitting.address, rows, columns, kind, columns * kind.bits // 8)
            fitting.address += size
            fitting.size -= size
            if not fitting.size:
                self._gaps.remove(fitting)
        self._sizes[tensor.address] = size
        return tensor

    def give(self, tensor: Tensor) -> None:
        """``tensor``'s last command has been emitted; ``KeyError`` if it was not taken here."""
        size = self._sizes.pop(tensor.address)
        if not self._reuse:
            return
        gap = _Gap(tensor.address, size)
        for other in [g for g in self._gaps
                      if g.address + g.size == gap.address or gap.address + gap.size == g.address]:
            self._gaps.remove(other)
            gap = _Gap(min(gap.address, other.address), gap.size + other.size)
        self._gaps.append(gap)
