"""A design's netlist without its names: what two texts must share to be one circuit.

Yosys elaborates and flattens a text; what is left is brought to a normal form in which only the
circuit counts. Words are taken apart: a register, a multiplexer, a bitwise gate or a memory of n
bits is n of one bit. Aliases go, a multiplexer of two equal inputs is no multiplexer, and
combinational cells of equal type, parameters and inputs are one. Arithmetic and comparisons stay
words, their operands in order. Registers and memories are never merged; a register keeps its
initial value, a memory its contents.

What no output port depends on is not part of the netlist.
"""

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gen.leaves import Library
from synth.yosys import quoted, run_yosys

__all__ = ["Netlist", "Node", "read_design", "read_library"]

_READERS = {".v": "read_verilog", ".sv": "read_verilog -sv", ".il": "read_rtlil",
            ".rtlil": "read_rtlil"}
_REGISTERS = frozenset({"$dff", "$dffe", "$adff", "$adffe", "$sdff", "$sdffe", "$sdffce",
                        "$dlatch", "$adlatch"})
_ALIASES = frozenset({"$pos", "$buf"})
_BITWISE = frozenset({"$not", "$and", "$or", "$xor", "$xnor", *_ALIASES})
_CLASSES = ("gates", "register bits", "memory bits", "black boxes", "input bits", "constants")
_NO_HARDWARE = frozenset({"$scopeinfo"})

_FOLDER = re.compile(r"/\S*/(?=design\d)")  # of the texts, in names that Yosys made

Bit = int | str
Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """``kind``: type and parameters, or what a port or constant is. ``inputs``: (node, output)
    of what drives each input, in order. ``name``: where it was in the text."""

    kind: Key
    inputs: tuple[tuple[int, int], ...]
    name: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of the normal form before its inputs are resolved: ``state`` cells are not merged."""

    kind: Key
    inputs: tuple[Bit, ...]
    name: str
    state: bool


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
        self._cells: list[_Cell] = []
        self._drivers: dict[Bit, tuple[int, int]] = {}
        for given, cell in module["cells"].items():
            name = _FOLDER.sub("", given)
            if cell["type"] not in _NO_HARDWARE:
                for part, outputs in _parts(name, cell, _initial_values(module)):
                    self._add(part, outputs)
        ends: list[tuple[str, Bit]] = []
        for name, port in sorted(module["ports"].items()):
            bits = [(f"{name}[{index}]", bit) for index, bit in enumerate(port["bits"])]
            if port["direction"] == "input":
                for label, bit in bits:
                    self._add(_Cell(("input", label), (), label, True), (bit,))
            else:
                ends += bits
        values = self._resolve([bit for _, bit in ends])
        self.nodes, self.outputs = self._number(
            [(label, values[bit]) for label, bit in ends], values)
        self.ports = [f"{port['direction']} {name}[{index}]"
                      for name, port in sorted(module["ports"].items())
                      for index in range(len(port["bits"]))]
        found = Counter(_class_of(node) for node in self.nodes)
        self.counts = {name: found[name] for name in _CLASSES if found[name]}

    def _add(self, cell: _Cell, outputs: Sequence[Bit]) -> None:
        for index, bit in enumerate(outputs):
            if bit in self._drivers or isinstance(bit, str):
                raise ValueError(f"bit {index} of {cell.name} must have one driver, not two")
            self._drivers[bit] = len(self._cells), index
        self._cells.append(cell)

    def _driver(self, bit: Bit) -> tuple[int, int]:
        """Cell and output that drive ``bit``: a constant's too, and what nobody drives is x."""
        if bit not in self._drivers:
            constant = bit if isinstance(bit, str) else "x"
            self._drivers[bit] = len(self._cells), 0
            self._cells.append(_Cell(("constant", constant), (), constant, False))
        return self._drivers[bit]

    def _resolve(self, ends: Sequence[Bit]) -> dict[Bit, tuple[int, int]]:
        """For each bit that an end depends on the cell that drives it, merged cells as one."""
        drivers, cells = self._drivers, self._cells
        values: dict[Bit, tuple[int, int]] = {}
        merged: dict[Key, int] = {}
        opened: set[Bit] = set()
        ends = list(ends)
        while ends:
            pending = [ends.pop()]
            while pending:
                bit = pending[-1]
                cell = None
                if bit not in values:
                    cell = cells[self._driver(bit)[0]]
                if cell is None or cell.state:
                    pending.pop()
                    if cell is not None:
                        values[bit] = drivers[bit]
                        # Its inputs are ends of their own: a loop through a state is none.
                        ends += cell.inputs
                    continue
                missing = [source for source in cell.inputs if source not in values]
                if missing:
                    if bit in opened:
                        raise ValueError(f"gates must not form a loop, but {cell.name} does")
                    opened.add(bit)
                    pending += missing
                    continue
                pending.pop()
                number, output = drivers[bit]
                sources = tuple(values[source] for source in cell.inputs)
                if cell.kind == ("alias",) or (
                        cell.kind == ("$mux",) and sources[0] == sources[1]):
                    values[bit] = sources[0]
                else:
                    values[bit] = merged.setdefault((cell.kind, sources), number), output
        return values

    def _number(self, ends, values) -> tuple[list[Node], list[tuple[str, tuple[int, int]]]]:
        """Nodes in the order of the walk, and the ends by their numbers."""
        numbers: dict[int, int] = {}
        order: list[int] = []

        def numbered(value: tuple[int, int]) -> tuple[int, int]:
            cell, output = value
            if cell not in numbers:
                numbers[cell] = len(order)
                order.append(cell)
            return numbers[cell], output

        outputs = [(label, numbered(value)) for label, value in ends]
        nodes = []
        for cell_number in order:  # grows as it is walked
            cell = self._cells[cell_number]
            nodes.append(Node(cell.kind, tuple(numbered(values[bit]) for bit in cell.inputs),
                              cell.name))
        return nodes, outputs

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


def _class_of(node: Node) -> str:
    """What a node is counted as, one of ``_CLASSES``."""
    kind = str(node.kind[0])
    if kind in _REGISTERS:
        return "register bits"
    if kind == "$mem_v2":
        return "memory bits"
    if kind.startswith("$"):
        return "gates"
    return {"input": "input bits", "constant": "constants"}.get(kind, "black boxes")


def _initial_values(module: Any) -> dict[Bit, str]:
    """Initial value of each bit that has one."""
    if "initial" not in module:
        found: dict[Bit, str] = {}
        for net in module["netnames"].values():
            value = net["attributes"].get("init")
            if value is not None:
                found.update(zip(net["bits"], reversed(value), strict=False))
        module["initial"] = found
    return module["initial"]


def _integer(value: str | int) -> int:
    return value if isinstance(value, int) else int(value, 2)


def _parts(name: str, cell: dict, initial: Mapping[Bit, str]
           ) -> Iterator[tuple[_Cell, tuple[Bit, ...]]]:
    """The cells of one bit, or the one cell, that ``cell`` is in the normal form."""
    kind, pins, parameters = cell["type"], cell["connections"], cell["parameters"]
    if kind in _REGISTERS:
        yield from _registers(name, kind, pins, parameters, initial)
    elif kind in _BITWISE:
        yield from _gates(name, kind, pins, parameters)
    elif kind == "$mux":
        for index, bit in enumerate(pins["Y"]):
            yield _Cell(("$mux",), (pins["A"][index], pins["B"][index], *pins["S"]),
                        f"{name}[{index}]", False), (bit,)
    elif kind == "$pmux":
        width = len(pins["Y"])
        for index, bit in enumerate(pins["Y"]):
            yield _Cell(("$pmux",), (pins["A"][index], *pins["B"][index::width], *pins["S"]),
                        f"{name}[{index}]", False), (bit,)
    elif kind == "$mem_v2":
        yield from _memory(name, pins, parameters)
    else:
        yield _whole(name, kind, cell)


def _registers(name, kind, pins, parameters, initial):
    vectors = [pin for pin in ("D", "AD") if pin in pins]
    controls = [pin for pin in sorted(pins) if pin not in ("D", "AD", "Q")]
    resets = [key for key in sorted(parameters) if key.endswith("_VALUE")]
    rest = tuple((key, _integer(value)) for key, value in sorted(parameters.items())
                 if key != "WIDTH" and key not in resets)
    for index, bit in enumerate(pins["Q"]):
        loads = tuple((key, parameters[key][-1 - index]) for key in resets)
        inputs = (*(pins[pin][index] for pin in vectors),
                  *(source for pin in controls for source in pins[pin]))
        yield _Cell((kind, tuple(controls), rest, loads, initial.get(bit, "x")), inputs,
                    f"{name}[{index}]", True), (bit,)


def _gates(name, kind, pins, parameters):
    operands = [pin for pin in ("A", "B") if pin in pins]
    signed = all(_integer(parameters[f"{pin}_SIGNED"]) for pin in operands)

    def extended(bits, index):
        if index < len(bits):
            return bits[index]
        return bits[-1] if signed and bits else "0"

    for index, bit in enumerate(pins["Y"]):
        yield _Cell(("alias",) if kind in _ALIASES else (kind,),
                    tuple(extended(pins[pin], index) for pin in operands),
                    f"{name}[{index}]", False), (bit,)


def _memory(name, pins, parameters):
    """A memory a bit of its words; what all of them share is each one's."""
    width = _integer(parameters["WIDTH"])
    reads, writes = (_integer(parameters[f"{side}_PORTS"]) for side in ("RD", "WR"))
    by_word = {"RD_INIT_VALUE", "RD_ARST_VALUE", "RD_SRST_VALUE"}
    shared = tuple((key, value) for key, value in sorted(parameters.items())
                   if key not in {"WIDTH", "MEMID", "INIT", *by_word})
    common = tuple(bit for pin in sorted(pins) if pin not in ("RD_DATA", "WR_DATA", "WR_EN")
                   for bit in pins[pin])
    contents = parameters["INIT"]
    for index in range(width):
        def column(bits, ports, index=index):
            return tuple(bits[port * width + index] for port in range(ports))

        own = tuple((key, "".join(column(parameters[key][::-1], reads))) for key in sorted(by_word))
        kind = ("$mem_v2", shared, own, contents[::-1][index::width])
        inputs = (*common, *column(pins["WR_EN"], writes), *column(pins["WR_DATA"], writes))
        yield _Cell(kind, inputs, f"{name}[{index}]", True), column(pins["RD_DATA"], reads)


def _whole(name, kind, cell):
    directions = cell.get("port_directions")
    pins = cell["connections"]
    if directions is None or set(directions) != set(pins):
        raise ValueError(f"module {kind!r} must be in the text, since {name!r} instantiates it")
    parameters = tuple(sorted(cell["parameters"].items()))
    ordered = sorted(pins)
    shape = tuple((pin, directions[pin], len(pins[pin])) for pin in ordered)
    inputs = tuple(bit for pin in ordered if directions[pin] == "input" for bit in pins[pin])
    outputs = tuple(bit for pin in ordered if directions[pin] == "output" for bit in pins[pin])
    return _Cell((kind, parameters, shape), inputs, name, not kind.startswith("$")), outputs


def read_design(sources: Sequence[tuple[str, str]], top: str | None = None) -> Netlist:
    """The netlist of ``top`` in texts, each with the ending (``.v``, ``.il`` …) that tells its
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
