"""RTLIL text, in the form in which Amaranth writes it, as records.

The language is Yosys' own (its manual, chapter "RTLIL text representation"). Names keep their
first character: ``\\`` before a name of the design, ``$`` before one that Amaranth made up. A
signal stays text, a piece of a wire ``\\a [7:4]``, a constant ``2'01``, or ``{ high low }``, until
``Module.pieces`` takes it apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Assign", "Body", "Case", "Cell", "Field", "Memory", "Module", "Piece", "Process",
           "Switch", "Wire", "bit_by_bit", "joined", "parse"]


class Piece(NamedTuple):
    """``wire[low + width - 1 : low]``, or a constant of ``bits``, its highest bit first."""

    wire: str
    low: int
    width: int
    bits: str = ""


def bit_by_bit(pieces: Sequence[Piece]) -> list[Piece]:
    """``pieces`` as single bits, the highest first."""
    return [Piece(piece.wire, piece.low + bit, 1, piece.bits[piece.width - 1 - bit:][:1])
            for piece in pieces for bit in reversed(range(piece.width))]


def joined(bits: Sequence[Piece]) -> list[Piece]:
    """``bits``, the highest first, with neighbours of one wire, or constants, as one piece."""
    pieces: list[Piece] = []
    for bit in bits:
        last = pieces[-1] if pieces else None
        if last and not last.wire and not bit.wire:
            pieces[-1] = Piece("", 0, last.width + 1, last.bits + bit.bits)
        elif last and last.wire == bit.wire and last.low == bit.low + 1:
            pieces[-1] = Piece(bit.wire, bit.low, last.width + 1)
        else:
            pieces.append(bit)
    return pieces


@dataclass(slots=True)
class Wire:
    """``direction``: input, output or nothing; ``init``: bits of a register, highest first."""

    name: str
    width: int
    signed: bool = False
    direction: str = ""
    init: str = ""


class Memory(NamedTuple):
    """``depth`` words of ``width`` bits."""

    name: str
    width: int
    depth: int


@dataclass(slots=True)
class Cell:
    """An instance of a module (``kind`` starts with a backslash) or of one of Yosys' cells."""

    kind: str
    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)


class Assign(NamedTuple):
    """``target`` takes ``value`` unless a later assignment gives it another."""

    target: str
    value: str


class Switch(NamedTuple):
    """The first case of which a pattern equals ``selector`` runs; no pattern always does."""

    selector: str
    cases: "list[Case]"


Body = list[Assign | Switch]
Case = tuple[tuple[str, ...], Body]


@dataclass(slots=True)
class Process:
    """``default`` assigns all of a wire; ``body``, assignments and switches in order, parts of it
    other values."""

    name: str
    default: Assign
    body: Body

    @property
    def choices(self) -> bool:
        """Whether the value depends on a switch."""
        return any(isinstance(item, Switch) for item in self.body)


# The rest of a field's name after that of its wire, its lowest bit and its width.
Field = tuple[str, int, int]


@dataclass(slots=True)
class Module:
    """``text``: the module's own. ``items``: cells and processes; ``connections``: pairs of a
    wire and what drives it; ``fields``: by wire that is a structure, its fields.

    Wires that are such fields, ``\\plan.rows`` connected to bits of ``\\plan``, are no ``wires``.
    """

    name: str
    text: str = field(default="", repr=False)
    wires: dict[str, Wire] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    items: list[Cell | Process] = field(default_factory=list)
    connections: list[Assign] = field(default_factory=list)
    fields: dict[str, Callable[[], Iterable[Field]]] = field(default_factory=dict, repr=False)
    _pieces: dict[str, tuple[Piece, ...]] = field(default_factory=dict, repr=False)

    @property
    def ports(self) -> list[Wire]:
        """Wires that are ports, in their order."""
        return [wire for wire in self.wires.values() if wire.direction]

    @property
    def cells(self) -> list[Cell]:
        """Instances of modules, the design's or black boxes."""
        return [item for item in self.items
                if isinstance(item, Cell) and item.kind.startswith("\\")]

    def pieces(self, signal: str) -> tuple[Piece, ...]:
        """Pieces of ``signal``, the highest first; none of them is empty."""
        known = self._pieces.get(signal)
        if known is None:
            words = signal.split()
            if words and words[0] == "{":
                words = words[1:-1]
            known = self._pieces[signal] = tuple(self._walk(words))
        return known

    def _walk(self, words: list[str]) -> Iterator[Piece]:
        place = 0
        while place < len(words):
            word = words[place]
            place += 1
            if word[0] not in "\\$":
                bits = word[word.index("'") + 1:]
                if bits:
                    yield Piece("", 0, len(bits), bits)
            elif place < len(words) and words[place][0] == "[":
                high, _, low = words[place][1:-1].partition(":")
                place += 1
                yield Piece(word, int(low or high), int(high) - int(low or high) + 1)
            elif self.wires[word].width:
                yield Piece(word, 0, self.wires[word].width)


def parse(text: str) -> list[Module]:
    """The modules of ``text``; ``ValueError`` names a line that is none of Amaranth's.

    Amaranth calls a submodule ``parent.child``, which would be no identifier of Verilog: it is
    ``parent__child`` here.
    """
    lines = text.split("\n")
    modules, place = [], 0
    while place < len(lines):
        line = lines[place]
        if line.startswith("module "):
            start = place
            lines[start] = line.replace(".", "__")
            module = Module(lines[start][7:])
            place = _module(module, lines, place + 1)
            module.text = "\n".join(lines[start:place]) + "\n"
            modules.append(module)
            continue
        if line and not line.startswith("attribute "):
            raise ValueError(f"RTLIL must hold modules, not {line!r}")
        place += 1
    return modules


def _module(module: Module, lines: list[str], place: int) -> int:
    """Read the lines of ``module`` from ``place`` on; where what follows its end starts."""
    init = ""
    while True:
        line = lines[place]
        place += 1
        word = line[2:6]
        if line.startswith("connect "):
            _connect(module, Assign(*_two(line[8:])))
        elif not line:
            pass
        elif word == "wire":
            wire = _wire(line, init)
            if not _is_field(wire.name):
                module.wires[wire.name] = wire
            init = ""
        elif word == "cell":
            if line[7] == "\\" and "." in line:
                line = lines[place - 1] = line.replace(".", "__")
            cell, place = _cell(line, lines, place)
            module.items.append(cell)
        elif word == "proc":
            name = line.rsplit(" ", 1)[1]
            body: Body = []
            place = _body(body, lines, place, "    ")
            if not body or not isinstance(body[0], Assign):
                raise ValueError(f"a process must begin with an assignment, not {lines[place]!r}")
            module.items.append(Process(name, body[0], body[1:]))
        elif word == "attr":
            if line.startswith("  attribute \\init "):
                init = line[line.index("'") + 1:]
        elif word == "memo":
            _, _, width, _, depth, name = line.split()
            module.memories[name] = Memory(name, int(width), int(depth))
        elif line == "end":
            return place
        else:
            raise ValueError(f"RTLIL must hold wires, cells and processes, not {line!r}")


def _is_field(wire: str) -> bool:
    return "." in wire or "[" in wire


def _connect(module: Module, pair: Assign) -> None:
    if not _is_field(pair.target):
        module.connections.append(pair)
        return
    pieces = module.pieces(pair.value)
    if len(pieces) == 1 and pieces[0].wire and pair.target.startswith(pieces[0].wire):
        wire, low, width, _ = pieces[0]
        known = list(module.fields[wire]()) if wire in module.fields else []
        known.append((pair.target[len(wire):], low, width))
        module.fields[wire] = known.copy


def _two(text: str) -> tuple[str, str]:
    """The two signals of an assignment, of which the first is a wire or a piece of one."""
    words = text.split(" ", 2)
    if len(words) > 2 and words[1][0] == "[":
        return f"{words[0]} {words[1]}", words[2]
    return words[0], text[len(words[0]) + 1:]


def _wire(line: str, init: str) -> Wire:
    words = line.split()
    direction = next((word for word in ("input", "output", "inout") if word in words[3:-1]), "")
    return Wire(words[-1], int(words[2]), "signed" in words[3:-1], direction, init)


def _cell(line: str, lines: list[str], place: int) -> tuple[Cell, int]:
    kind, name = line[7:].split(" ")
    cell = Cell(kind, name)
    while (line := lines[place]) != "  end":
        place += 1
        word, name, value = line[4:].split(" ", 2)
        if word == "connect":
            cell.ports[name] = value
        else:
            if name == "signed":
                name, _, value = value.partition(" ")
            cell.parameters[name] = value
    return cell, place + 1


def _body(body: Body, lines: list[str], place: int, indent: str) -> int:
    """Read statements that start at ``indent``; where what follows the ``end`` below it starts."""
    size = len(indent)
    while True:
        line = lines[place]
        place += 1
        if line.startswith("assign ", size):
            body.append(Assign(*_two(line[size + 7:])))
        elif line.startswith("switch ", size):
            switch = Switch(line[size + 7:], [])
            body.append(switch)
            while (line := lines[place]).startswith("case", size + 2):
                patterns = tuple(word.partition("'")[2]
                                 for word in line[size + 7:].split(", ") if word)
                case: Body = []
                switch.cases.append((patterns, case))
                place = _case(case, lines, place + 1, indent + "    ")
            place += 1
        else:
            return place


def _case(body: Body, lines: list[str], place: int, indent: str) -> int:
    return _body(body, lines, place, indent) - 1
