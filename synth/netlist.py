"""A design's netlist without its names: what two texts must share to be one circuit.

Yosys elaborates and flattens a text; what is left is brought to a normal form in which only the
circuit counts. Words are taken apart: a register, a multiplexer, a bitwise gate or a memory of n
bits is n of one bit. Aliases go, and gates that are none: of a constant, of two equal inputs, the
inverse of an inverse. Combinational cells of equal type, parameters and inputs are one.
Arithmetic and comparisons stay words, their operands in order. Registers and memories are never
merged; a register keeps its initial value, a memory its contents.

What no output port depends on is not part of the netlist.
"""

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gen.leaves import Library
from synth.bits import REGISTERS, Bit, Cell, Key, parts
from synth.yosys import quoted, run_yosys

__all__ = ["Netlist", "Node", "read_design", "read_library"]

_READERS = {".v": "read_verilog", ".sv": "read_verilog -sv", ".il": "read_rtlil",
            ".rtlil": "read_rtlil"}
_CLASSES = ("gates", "register bits", "memory bits", "black boxes", "input bits", "constants")
_SIMPLE = frozenset({("alias",), ("$not",), ("$and",), ("$or",), ("$xor",), ("$mux",), ("$pmux",)})
_NO_HARDWARE = frozenset({"$scopeinfo"})

_FOLDER = re.compile(r"/\S*/(?=design\d)")  # of the texts, in names that Yosys made

Source = tuple[int, int]  # a node and which of its outputs


@dataclass(frozen=True, slots=True)
class Node:
    """``kind``: type and parameters, or what a port or constant is. ``inputs``: what
    drives each input, in order. ``name``: where it was in the text."""

    kind: Key
    inputs: tuple[Source, ...]
    name: str = field(compare=False)


class Netlist:
    """``nodes`` in the order in which a walk from the output ports meets them.

    The walk takes ports by name and inputs in their order, so that it meets the nodes of two
    netlists in the same order where the two are the same circuit: then, and only then, ``nodes``
    of both are equal, and the numbers are the mapping. ``outputs``: name of each bit of the
    output ports and what drives it. ``ports``: direction and name of each bit of all ports.
    ``counts``: nodes by what they are.

    Raises ``ValueError`` where a bit has two drivers, gates form a loop, or a cell's ports have
    no known direction.
    """

    def __init__(self, module: Mapping[str, dict]) -> None:
        graph = _Graph()
        initial = _initial_values(module)
        for given, cell in module["cells"].items():
            if cell["type"] not in _NO_HARDWARE:
                for part, outputs in parts(_FOLDER.sub("", given), cell, initial):
                    graph.add(part, outputs)
        self.ports: list[str] = []
        ends: list[tuple[str, Bit]] = []
        for name, port in sorted(module["ports"].items()):
            bits = [(f"{name}[{index}]", bit) for index, bit in enumerate(port["bits"])]
            self.ports += [f"{port['direction']} {label}" for label, _ in bits]
            if port["direction"] == "input":
                for label, bit in bits:
                    graph.add(Cell(("input", label), (), label, True), (bit,))
            else:
                ends += bits
        values = graph.resolve([bit for _, bit in ends])
        self.nodes, self.outputs = _numbered(
            graph, [(label, value) for (label, _), value in zip(ends, values, strict=True)])
        found = Counter(_class_of(node) for node in self.nodes)
        self.counts = {name: found[name] for name in _CLASSES if found[name]}

    @property
    def cells(self) -> int:
        """Nodes that are hardware: neither an input nor a constant."""
        return sum(self.counts.get(name, 0) for name in _CLASSES[:4])

    @property
    def digest(self) -> str:
        """SHA-256 that changes with the circuit and the names of its ports alone."""
        seen = hashlib.sha256(repr(self.ports).encode())
        for label, value in self.outputs:
            seen.update(repr((label, value)).encode())
        for node in self.nodes:
            seen.update(repr((node.kind, node.inputs)).encode())
        return seen.hexdigest()


class _Graph:
    """Cells by the bits that they drive, and the nodes that they become."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._drivers: dict[Bit, tuple[Cell, int]] = {}
        self._values: dict[Bit, Source] = {}
        self._merged: dict[tuple[Key, tuple[Source, ...]], int] = {}
        self._states: list[tuple[int, Cell]] = []
        self._state_numbers: dict[int, int] = {}

    def add(self, cell: Cell, outputs: Sequence[Bit]) -> None:
        for index, bit in enumerate(outputs):
            if bit in self._drivers or isinstance(bit, str):
                raise ValueError(f"bit {index} of {cell.name} must have one driver, not two")
            self._drivers[bit] = cell, index

    def resolve(self, ends: Sequence[Bit]) -> list[Source]:
        """What drives ``ends``; ``nodes`` then holds all that they depend on."""
        pending = list(ends)
        known = 0
        while pending:
            self._resolve_gates(pending.pop())
            # The inputs of a state are ends of their own: a loop through it is none.
            for _, cell in self._states[known:]:
                pending += cell.inputs
            known = len(self._states)
        for number, cell in self._states:
            sources = tuple(self._values[bit] for bit in cell.inputs)
            self.nodes[number] = Node(cell.kind, sources, cell.name)
        return [self._values[bit] for bit in ends]

    def _resolve_gates(self, end: Bit) -> None:
        """Give ``end`` and the gates that it depends on, back to states, their values."""
        values, opened, pending = self._values, set(), [end]
        while pending:
            bit = pending[-1]
            if bit in values:
                pending.pop()
                continue
            if bit not in self._drivers:  # a constant; what has no driver is unknown
                values[bit] = self._constant(bit if isinstance(bit, str) else "x")
                continue
            cell, output = self._drivers[bit]
            if cell.state:
                values[bit] = self._state(cell), output
                continue
            missing = [source for source in cell.inputs if source not in values]
            if missing and bit in opened:
                raise ValueError(f"gates must not form a loop, but {cell.name} does")
            if missing:
                opened.add(bit)
                pending += missing
            else:
                values[bit] = self._gate(cell.kind, tuple(values[source] for source in cell.inputs),
                                         cell.name, output)

    def _state(self, cell: Cell) -> int:
        if id(cell) not in self._state_numbers:
            self._state_numbers[id(cell)] = len(self.nodes)
            self._states.append((len(self.nodes), cell))
            self.nodes.append(Node(cell.kind, (), cell.name))
        return self._state_numbers[id(cell)]

    def _constant(self, value: str) -> Source:
        return self._merge(("constant", value), (), value), 0

    def _merge(self, kind: Key, sources: tuple[Source, ...], name: str) -> int:
        number = self._merged.setdefault((kind, sources), len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(Node(kind, sources, name))
        return number

    def _gate(self, kind: Key, sources: tuple[Source, ...], name: str, output: int = 0) -> Source:
        """The gate, one that is equal, or what it comes to."""
        if kind in _SIMPLE:
            zero, one = self._constant("0"), self._constant("1")
            inverse = partial(self._gate, ("$not",), name=name)
            simple = self._simplified(kind[0], sources, name, zero, one, inverse)
            if simple is not None:
                return simple
        return self._merge(kind, sources, name), output

    def _simplified(self, kind, sources, name, zero, one, inverse) -> Source | None:
        """What a gate comes to that is none, else ``None``."""
        first = sources[0]
        if kind == "alias":
            return first
        if kind == "$not":
            node = self.nodes[first[0]]
            if first in (zero, one):
                return one if first == zero else zero
            return node.inputs[0] if node.kind == ("$not",) else None
        if kind == "$mux":
            if_clear, if_set, select = sources
            if if_clear == if_set or select == zero:
                return if_clear
            if select == one:
                return if_set
            if {if_clear, if_set} == {zero, one}:
                return select if if_set == one else inverse((select,))
            node = self.nodes[select[0]]
            if node.kind == ("$not",):
                return self._gate(("$mux",), (if_set, if_clear, node.inputs[0]), name)
            return None
        if kind == "$pmux":  # a default and n choices, then n selects
            choices = set(sources[:(len(sources) + 1) // 2])
            return first if len(choices) == 1 else None
        neutral = one if kind == "$and" else zero
        for this, other in (sources, sources[::-1]):
            if this == neutral:
                return other
            if this in (zero, one):  # the other constant
                return inverse((other,)) if kind == "$xor" else this
        if sources[0] == sources[1]:
            return zero if kind == "$xor" else first
        return None


def _numbered(graph: _Graph, ends: Sequence[tuple[str, Source]]
              ) -> tuple[list[Node], list[tuple[str, Source]]]:
    """The graph's nodes in the order of the walk, and the ends by these numbers."""
    numbers: dict[int, int] = {}
    order: list[int] = []

    def numbered(value: Source) -> Source:
        node, output = value
        if node not in numbers:
            numbers[node] = len(order)
            order.append(node)
        return numbers[node], output

    outputs = [(label, numbered(value)) for label, value in ends]
    nodes = []
    for number in order:  # grows as it is walked
        node = graph.nodes[number]
        nodes.append(Node(node.kind, tuple(map(numbered, node.inputs)), node.name))
    return nodes, outputs


def _class_of(node: Node) -> str:
    """What a node is counted as, one of ``_CLASSES``."""
    kind = str(node.kind[0])
    if kind in REGISTERS:
        return "register bits"
    if kind == "$mem_v2":
        return "memory bits"
    if kind.startswith("$"):
        return "gates"
    return {"input": "input bits", "constant": "constants"}.get(kind, "black boxes")


def _initial_values(module: Any) -> dict[Bit, str]:
    """Initial value of each bit that has one."""
    found: dict[Bit, str] = {}
    for net in module["netnames"].values():
        value = net["attributes"].get("init")
        if value is not None:
            found.update(zip(net["bits"], reversed(value), strict=False))
    return found


def read_design(sources: Sequence[tuple[str, str]], top: str | None = None) -> Netlist:
    """The netlist of ``top`` in texts, each with the ending (``.v``, ``.il`` …) that names its
    language; without ``top`` the module that no other instantiates.

    ``ValueError`` where an ending is unknown, ``YosysError`` where Yosys refuses a text.
    """
    with tempfile.TemporaryDirectory(prefix="ottava-netlist-") as folder:
        script = []
        for number, (ending, text) in enumerate(sources):
            if ending not in _READERS:
                raise ValueError(f"a design must end in one of {', '.join(_READERS)}, "
                                 f"not {ending!r}")
            path = Path(folder) / f"design{number}{ending}"
            path.write_text(text)
            script.append(f"{_READERS[ending]} {quoted(path)}")
        output = Path(folder) / "flat.json"
        run_yosys([*script, f"hierarchy -top {top}" if top else "hierarchy -auto-top",
                   "proc -norom", "flatten", "opt_clean", "memory_collect", "opt_clean",
                   f"write_json {quoted(output)}"])
        modules = json.loads(output.read_text())["modules"]
    if len(modules) != 1:
        raise ValueError(f"one module must be left, not {', '.join(sorted(modules)) or 'none'}")
    return Netlist(next(iter(modules.values())))


def read_library(library: Library, top: str) -> Netlist:
    """The netlist of module ``top`` of a generator's ``library``, before it becomes Verilog."""
    return read_design([(".il", library.rtlil), (".v", library.macro_text)], top)
