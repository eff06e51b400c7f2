"""Which units of a design there are, and which feed which: read off the elaborated design.

A unit is a submodule of the top or of a submodule that is opened. Bits are followed from a unit's
output through the assignments around it, registers included, to another unit's input; what selects
or enables is no flow of bits.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Fragment, Module, Value
from amaranth.lib import data, wiring

from gen.amaranth_private import assignments, mark_used, signals_of
from hdl.lib.leaf import using

__all__ = ["Connections", "Unit", "connections"]

_MEMBER = re.compile(r"\d+$")


@dataclass(frozen=True)
class Unit:
    """``components``: the submodules of one name but for a number, ``round0`` and ``round1``."""

    name: str
    components: tuple[wiring.Component, ...]

    @property
    def component(self) -> wiring.Component:
        return self.components[0]


@dataclass(frozen=True)
class Connections:
    """``bits``: from unit to unit, the widest group of bits that one port takes.

    Of a structure with a field ``data`` that is the field.
    """

    units: dict[str, Unit]
    bits: dict[tuple[str, str], int]


@dataclass(frozen=True)
class _Port:
    unit: str
    member: str
    flow: wiring.Flow
    bits: int


def _data_bits(value: object) -> int:
    if isinstance(value, data.View) and isinstance(value.shape(), data.StructLayout):
        fields = dict(value.shape())
        if "data" in fields:
            return int(fields["data"].width)
    return len(Value.cast(value))


class _Shell(Elaboratable):
    """Stands for a shared leaf: its ports count here, not its inside."""

    def __init__(self, component: wiring.Component) -> None:
        self.component = component
        mark_used(component)

    def elaborate(self, platform: object) -> Module:
        return Module()


class _Shells:
    """A library (``hdl.lib.leaf``) that elaborates no leaf: an array would take a minute."""

    enable = None
    fpga = False

    def reference(self, component: wiring.Component) -> Elaboratable:
        return _Shell(component)

    def macro(self, name: str) -> str:
        return name


def _owner(fragment: Fragment) -> wiring.Component | None:
    """The component that ``fragment`` came of."""
    for origin in fragment.origins or ():
        if isinstance(origin, _Shell):
            return origin.component
        if isinstance(origin, wiring.Component):
            return origin
    return None


class _Reader:
    """Collects ports and assignments while it walks the modules that are opened."""

    def __init__(self, opened: Sequence[str]) -> None:
        self._opened = opened
        self.units: dict[str, list[wiring.Component]] = defaultdict(list)
        self.ports: dict[int, _Port] = {}
        self.sources: dict[int, set[int]] = defaultdict(set)
        self._alive: list[object] = []  # identities of signals are keys here

    def read(self, fragment: Fragment) -> None:
        self._alive.append(fragment)
        for written, read in assignments(fragment):
            for target in written:
                self.sources[id(target)].update(map(id, read))
        for part, name, _ in fragment.subfragments:
            owner = _owner(part)
            if name in self._opened:
                self.read(part)
            elif owner is not None:
                self._unit(name, owner)

    def _unit(self, name: str, component: wiring.Component) -> None:
        self.units[_MEMBER.sub("", name)].append(component)
        for path, member, value in component.signature.flatten(component):
            port = _Port(name, ".".join(map(str, path)), member.flow, _data_bits(value))
            for signal in signals_of(value):
                self.ports[id(signal)] = port

    def feeding(self, signal: int) -> set[_Port]:
        """Outputs of other units whose bits reach ``signal``."""
        found, seen, todo = set(), {signal}, [signal]
        while todo:
            for source in self.sources[todo.pop()] - seen:
                seen.add(source)
                port = self.ports.get(source)
                if port is None:
                    todo.append(source)
                elif port.flow is wiring.Out:
                    found.add(port)
        return found


def connections(top: wiring.Component, opened: Sequence[str] = ("core",)) -> Connections:
    """The units of ``top`` and of its submodules ``opened``."""
    reader = _Reader(opened)
    with using(_Shells()):
        reader.read(Fragment.get(top, None))
    widest: dict[tuple[str, str], tuple[int, int, int]] = {}
    for signal, port in reader.ports.items():
        if port.flow is wiring.In:
            for source in reader.feeding(signal):
                bits = min(source.bits, port.bits), source.bits, port.bits
                pair = source.unit, port.unit
                widest[pair] = max(widest.get(pair, (0, 0, 0)), bits)
    members: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for (giver, taker), bits in widest.items():
        named = _MEMBER.sub("", giver), _MEMBER.sub("", taker)
        if named[0] != named[1]:
            members[named].append(bits)
    # Members side by side share the word of one port, or alternate with it: never more than that.
    total = {pair: min(sum(bits for bits, _, _ in parts), max(max(part) for part in parts))
             for pair, parts in members.items()}
    units = {name: Unit(name, tuple(parts)) for name, parts in reader.units.items()}
    return Connections(units, total)
