"""What a Liberty file says of its cells' functions, loads, delays and energies: ``cells``.

Tables are read whichever of their variables comes first, with the points of their template where
they have none of their own. What holds only ``when`` something does is kept beside what holds then
otherwise: who uses it takes the mean.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from synth.expression import Expression, parse
from synth.library import Library

__all__ = ["Arc", "Cell", "Energy", "Flop", "Liberty", "Pin", "Table", "liberty"]

_TOKEN = re.compile(r'"([^"]*)"|([\w.+-]+|[^\s\w])')
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_SLEWS = ("input_net_transition", "input_transition_time")
_UNIT = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}


@dataclass(frozen=True)
class Table:
    """``at(load, slew)``, pF and ns: linear between the points and beyond them."""

    loads: tuple[float, ...]
    slews: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, load: float, slew: float) -> float:
        row, up = _between(self.loads, load)
        column, right = _between(self.slews, slew)
        below, above = (self.values[min(row + step, len(self.loads) - 1)] for step in (0, 1))
        after = min(column + 1, len(self.slews) - 1)
        return ((1 - up) * ((1 - right) * below[column] + right * below[after])
                + up * ((1 - right) * above[column] + right * above[after]))


def _between(points: Sequence[float], value: float) -> tuple[int, float]:
    """The neighbour below and how far the value lies from it to the next."""
    if len(points) == 1:
        return 0, 0.0
    below = min(max(bisect_left(points, value), 1), len(points) - 1) - 1
    return below, (value - points[below]) / (points[below + 1] - points[below])


@dataclass(frozen=True)
class Energy:
    """pJ inside the cell of a transition of its pin, caused by pin ``related`` where one is
    named: of a rise and of a fall."""

    related: str
    rise: Table
    fall: Table


@dataclass(frozen=True)
class Arc:
    """From pin ``related``: ns to a rise and to a fall, and these edges' slews."""

    related: str
    rise: Table
    fall: Table
    rise_slew: Table
    fall_slew: Table


@dataclass(frozen=True)
class Pin:
    """``load`` in pF. ``function``: of an output, over inputs, or the flop's state."""

    output: bool
    load: float
    function: Expression | None
    energies: tuple[Energy, ...]
    arcs: tuple[Arc, ...]


@dataclass(frozen=True)
class Flop:
    """``state`` and ``inverse`` are what outputs call it; ``next`` and ``clock`` are of inputs."""

    state: str
    inverse: str
    next: Expression
    clock: Expression


@dataclass(frozen=True)
class Cell:
    """``leakage`` in mW. ``other``: what keeps it from being simulated, a latch say."""

    name: str
    leakage: float
    pins: Mapping[str, Pin]
    flop: Flop | None
    other: str = ""

    @property
    def inputs(self) -> list[str]:
        return [name for name, pin in self.pins.items() if not pin.output]

    @property
    def outputs(self) -> list[str]:
        return [name for name, pin in self.pins.items() if pin.output]


@dataclass(frozen=True)
class Liberty:
    """``volts``: the supply. Cells by name."""

    volts: float
    cells: Mapping[str, Cell]

    @property
    def has_energies(self) -> bool:
        return any(pin.energies for cell in self.cells.values() for pin in cell.pins.values())


@dataclass
class _Group:
    kind: str
    arguments: list[str]
    attributes: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    groups: list["_Group"] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.arguments[0] if self.arguments else ""

    def of(self, kind: str) -> Iterator["_Group"]:
        return (group for group in self.groups if group.kind == kind)


@lru_cache(maxsize=4)
def liberty(library: Library) -> Liberty:
    """The cells of ``library``; ``ValueError`` where its text is no Liberty."""
    text = _COMMENT.sub(" ", library.text).replace("\\\n", " ")
    tokens = [match[1] if match[2] is None else match[2] for match in _TOKEN.finditer(text)]
    try:
        root, _ = _group(tokens, 0)
        units = _Units(root)
        return Liberty(float(root.attributes.get("nom_voltage", 1)),
                       {group.name: _cell(group, units) for group in root.of("cell")})
    except (IndexError, KeyError, StopIteration) as error:
        raise ValueError(f"liberty must be a whole Liberty file, not {library.path}: "
                         f"{error!r}") from error


def _group(tokens: list[str], at: int) -> tuple[_Group, int]:
    """The group whose kind is at ``at``, and where the text goes on."""
    kind = tokens[at]
    arguments, at = _arguments(tokens, at + 1)
    group, at = _Group(kind, arguments), at + 1
    while tokens[at] != "}":
        name = tokens[at]
        if name == ";":
            at += 1
        elif tokens[at + 1] == ":":
            group.attributes[name], at = tokens[at + 2], at + 3
            while tokens[at] not in (";", "}") and tokens[at + 1] not in (":", "("):
                at += 1  # an expression without quotes: not of what is read here
        else:
            values, after = _arguments(tokens, at + 1)
            if after < len(tokens) and tokens[after] == "{":
                inner, at = _group(tokens, at)
                group.groups.append(inner)
            else:
                group.lists.setdefault(name, []).extend(values)
                at = after
    return group, at + 1


def _arguments(tokens: list[str], at: int) -> tuple[list[str], int]:
    if tokens[at] != "(":
        raise KeyError(f"( after {tokens[at - 1]!r}")
    end = tokens.index(")", at)
    return [token for token in tokens[at + 1:end] if token != ","], end + 1


class _Units:
    """What numbers of a file count, in ns, pF, pJ and mW."""

    def __init__(self, root: _Group) -> None:
        self.time = self._of(root.attributes.get("time_unit", "1ns"), "s") / 1e-9
        scale, unit = root.lists.get("capacitive_load_unit", ["1", "pf"])
        self.load = float(scale) * _UNIT[unit.lower().removesuffix("f")] / 1e-12
        volt = self._of(root.attributes.get("voltage_unit", "1V"), "v")
        self.energy = self.load * volt * volt
        self.leakage = self._of(root.attributes.get("leakage_power_unit", "1nW"), "w") / 1e-3
        self.templates = {group.name: group for kind in ("lu_table_template", "power_lut_template")
                          for group in root.of(kind)}

    @staticmethod
    def _of(text: str, unit: str) -> float:
        found = re.fullmatch(rf"([0-9.]+)\s*([a-z]?){unit}", text.lower())
        if found is None:
            raise KeyError(f"a unit of {unit}, not {text!r}")
        return float(found[1]) * _UNIT[found[2]]


def _cell(group: _Group, units: _Units) -> Cell:
    flops = [*group.of("ff")]
    other = next((kind for kind in ("latch", "statetable", "test_cell")
                  if any(True for _ in group.of(kind))), "")
    flop = None
    if flops:
        said = flops[0].attributes
        names = [*flops[0].arguments, "", ""]
        other = other or next((kind for kind in ("clear", "preset") if kind in said), "")
        flop = Flop(names[0], names[1], parse(said["next_state"]), parse(said["clocked_on"]))
    return Cell(group.name, float(group.attributes.get("cell_leakage_power", 0)) * units.leakage,
                {pin.name: _pin(pin, units) for pin in group.of("pin")}, flop, other)


def _pin(group: _Group, units: _Units) -> Pin:
    function = group.attributes.get("function")
    arcs = [arc for arc in group.of("timing")
            if any(True for _ in arc.of("rise_transition"))]
    return Pin(group.attributes.get("direction") == "output",
               float(group.attributes.get("capacitance", 0)) * units.load,
               None if function is None else parse(function),
               tuple(Energy(one.attributes.get("related_pin", ""),
                            _table(one, "rise_power", units.energy, units),
                            _table(one, "fall_power", units.energy, units))
                     for one in group.of("internal_power") if one.groups),
               tuple(Arc(one.attributes["related_pin"],
                         *(_table(one, name, units.time, units)
                           for name in ("cell_rise", "cell_fall", "rise_transition",
                                        "fall_transition"))) for one in arcs))


def _table(group: _Group, kind: str, scale: float, units: _Units) -> Table:
    found = next(group.of(kind), None)
    if found is None:  # an edge that the cell does not have
        return Table((0.0,), (0.0,), ((0.0,),))
    values = np.array(_numbers(found.lists["values"])) * scale
    template = units.templates.get(found.name, _Group("", []))
    points = {}  # of each variable, in their order
    for number in (1, 2):
        variable = template.attributes.get(f"variable_{number}")
        if variable is not None:
            index = f"index_{number}"
            points[variable] = _numbers(found.lists.get(index, template.lists.get(index, [])))
    shape = [len(own) for own in points.values()]
    values = values.reshape(shape or (1, 1))
    by_load = [name for name in points if name == "total_output_net_capacitance"]
    by_slew = [name for name in points if name in _SLEWS]
    if len(by_load) + len(by_slew) != len(points):
        raise KeyError(f"tables over load and slew, not {', '.join(points)}")
    if len(points) == 2 and by_load != [next(iter(points))]:
        values = values.T
    loads = tuple(x * units.load for x in points[by_load[0]]) if by_load else (0.0,)
    slews = tuple(x * units.time for x in points[by_slew[0]]) if by_slew else (0.0,)
    return Table(loads, slews, tuple(map(tuple, values.reshape(len(loads), len(slews)).tolist())))


def _numbers(rows: Sequence[str]) -> list[float]:
    return [float(word) for row in rows for word in row.replace(",", " ").split()]
