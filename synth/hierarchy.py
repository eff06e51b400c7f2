"""Which modules a generated Verilog text holds, and which of them are mapped together.

A *unit* is what one run of the flow maps: a module with everything below it flattened in, except
the modules that are units themselves and stand in it as black boxes. A module is a unit of its own
where some module instantiates it more than ``FEW`` times, where it holds such instances, or where
it is a memory. So a PE, a decoder or a lane is mapped whole, as a designer would, and an array of
256 PEs costs one mapping of a row and one of a PE.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

__all__ = ["FEW", "MEMORY_PREFIX", "Hierarchy", "VerilogModule"]

FEW = 4
MEMORY_PREFIX = "ottava_sram_"

_MODULE = re.compile(r"^module (\S+?)\s*\(.*?^endmodule$", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\\?\S+) +\\?\S+ +\($", re.MULTILINE)
_PORT = re.compile(r"^  (?:input|output|inout)\b.*;$", re.MULTILINE)
_HEADER = re.compile(r"^module .*?;$", re.MULTILINE | re.DOTALL)
_SIZED = re.compile(
    rf"^  \w*{MEMORY_PREFIX}\w+ #\(\n((?:    \.\w+\(.*\),?\n)+)  \) ", re.MULTILINE)
_SIZE = re.compile(r"\.(WIDTH|DEPTH)\((?:32'd)?(\d+)\)")
_STORAGE = re.compile(r"^  reg (?:\[(\d+):0\] )?\\?\S+ +\[(\d+):0\];$", re.MULTILINE)


@dataclass(frozen=True)
class VerilogModule:
    """One module: its text, and how often it instantiates each other module of the file."""

    name: str
    text: str
    cells: Counter[str]

    @cached_property
    def black_box(self) -> str:
        """The module as its surroundings see it: ports only."""
        header = _HEADER.search(self.text)
        assert header is not None, "a module begins with one"
        lines = [header[0], *_PORT.findall(self.text), "endmodule"]
        return "(* blackbox *)\n" + "\n".join(lines) + "\n"

    @property
    def is_memory(self) -> bool:
        return MEMORY_PREFIX in self.name

    @cached_property
    def storage_bits(self) -> int:
        """Bits of the memories declared in this very module, and of sized macros in it."""
        declared = sum((int(width or 0) + 1) * (int(depth) + 1)
                       for width, depth in _STORAGE.findall(self.text))
        for parameters in _SIZED.findall(self.text):
            size = {name: int(value) for name, value in _SIZE.findall(parameters)}
            declared += size["WIDTH"] * size["DEPTH"]
        return declared


class Hierarchy:
    """The modules of one Verilog text under ``top``.

    ``ValueError`` where the text has no module of that name.
    """

    def __init__(self, verilog: str, top: str) -> None:
        texts = {match[1]: match[0] + "\n" for match in _MODULE.finditer(verilog)}
        if top not in texts:
            raise ValueError(f"top must be a module of the text, not {top!r}")
        self.top = top
        self.modules = {
            name: VerilogModule(name, text, Counter(
                found for found in _INSTANCE.findall(text) if found in texts))
            for name, text in texts.items()}

    @cached_property
    def counts(self) -> Counter[str]:
        """Instances of each module under one ``top``, which counts once itself."""
        known: dict[str, Counter[str]] = {}

        def below(name: str) -> Counter[str]:
            if name not in known:
                total = Counter({name: 1})
                for child, times in self.modules[name].cells.items():
                    for inner, count in below(child).items():
                        total[inner] += times * count
                known[name] = total
            return known[name]

        return below(self.top)

    @cached_property
    def units(self) -> frozenset[str]:
        """Modules that are mapped on their own; always holds ``top``."""
        reached = self.counts
        repeated = {child for name in reached
                    for child, times in self.modules[name].cells.items() if times > FEW}
        repeated |= {name for name in reached if self.modules[name].is_memory}
        found = {self.top} | repeated

        def holds_unit(name: str) -> bool:
            return any(child in repeated or holds_unit(child)
                       for child in self.modules[name].cells)

        return frozenset(found | {name for name in reached if holds_unit(name)})

    def members(self, unit: str) -> tuple[Counter[str], frozenset[str]]:
        """Modules flattened into ``unit`` with their instances in it, and the units it holds."""
        inside: Counter[str] = Counter()
        boxes: set[str] = set()

        def walk(name: str, times: int) -> None:
            inside[name] += times
            for child, count in self.modules[name].cells.items():
                if child in self.units:
                    boxes.add(child)
                else:
                    walk(child, times * count)

        walk(unit, 1)
        return inside, frozenset(boxes)

    def unit_text(self, unit: str) -> str:
        """Verilog that maps ``unit``: its members in full, the units inside as black boxes."""
        inside, boxes = self.members(unit)
        return "".join([*(self.modules[name].text for name in sorted(inside)),
                        *(self.modules[name].black_box for name in sorted(boxes))])

    @property
    def memory_bits(self) -> int:
        """Bits of every memory macro under ``top``, instances counted."""
        return sum(times * sum(self.modules[inner].storage_bits * count
                               for inner, count in self._subtree(name).items())
                   for name, times in self.counts.items() if self.modules[name].is_memory
                   and name in self.units)

    def _subtree(self, name: str) -> Counter[str]:
        total = Counter({name: 1})
        for child, times in self.modules[name].cells.items():
            for inner, count in self._subtree(child).items():
                total[inner] += times * count
        return total
