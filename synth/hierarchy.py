"""Which modules of a design are mapped together.

A *unit* is what one run of the flow maps: a module with everything below it flattened in, except
the modules that are units themselves and stand in it as black boxes. A module is a unit of its own
where some module instantiates it more than ``FEW`` times, where it holds such instances, where it
is a memory, or where the caller wants it ``apart``. So a PE, a decoder or a lane is mapped whole,
as a designer would, and an array of 256 PEs costs one mapping of a row and one of a PE.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gen.design import Design, Module

__all__ = ["FEW", "Hierarchy", "Unit"]

FEW = 4


@dataclass(frozen=True)
class Unit:
    """What is mapped at once: ``text`` holds its members in full and ``boxes``, the units and
    memories inside, as black boxes."""

    name: str
    text: str = field(repr=False)
    boxes: frozenset[str] = frozenset()


class Hierarchy:
    """The modules of ``design`` under its top.

    What a module instantiates and the text does not define is left out. ``apart``: modules that are
    units in any case; those that the design lacks mean nothing.
    """

    def __init__(self, design: Design, apart: Collection[str] = ()) -> None:
        self.top = design.top
        self.modules: Mapping[str, Module] = design.modules
        self.counts = Counter({name: count for name, count in design.counts.items()
                               if name in design.modules})
        self.apart = frozenset(apart) & self.counts.keys()

    def _cells(self, name: str) -> dict[str, int]:
        return {child: times for child, times in self.modules[name].cells.items()
                if child in self.modules}

    @cached_property
    def units(self) -> frozenset[str]:
        """Modules that are mapped on their own; always holds ``top``."""
        repeated = {child for name in self.counts
                    for child, times in self._cells(name).items() if times > FEW}
        repeated |= {name for name in self.counts if self.modules[name].is_memory}
        repeated |= self.apart
        found = {self.top} | repeated

        def holds_unit(name: str) -> bool:
            return any(child in repeated or holds_unit(child) for child in self._cells(name))

        return frozenset(found | {name for name in self.counts if holds_unit(name)})

    def members(self, unit: str) -> tuple[Counter[str], frozenset[str]]:
        """Modules flattened into ``unit`` with their instances in it, and the units it holds."""
        inside: Counter[str] = Counter()
        boxes: set[str] = set()

        def walk(name: str, times: int) -> None:
            inside[name] += times
            for child, count in self._cells(name).items():
                if child in self.units:
                    boxes.add(child)
                else:
                    walk(child, times * count)

        walk(unit, 1)
        return inside, frozenset(boxes)

    def unit(self, name: str) -> Unit:
        """What is read to map unit ``name``."""
        inside, boxes = self.members(name)
        return Unit(name, "".join([*(self.modules[member].text for member in sorted(inside)),
                                   *(self.modules[box].black_box for box in sorted(boxes))]), boxes)

    @property
    def memories(self) -> dict[str, int]:
        """Instances of each memory under ``top``."""
        return {name: count for name, count in sorted(self.counts.items())
                if self.modules[name].memories and self.modules[name].is_memory}

    @property
    def memory_bits(self) -> int:
        """Bits of every memory under ``top``, instances counted."""
        return sum(count * sum(memory.bits for memory in self.modules[name].memories)
                   for name, count in self.memories.items())
