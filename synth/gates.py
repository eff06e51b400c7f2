"""A mapped netlist as cells of a library and the nets between them: ``Gates``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from synth.liberty import Cell, Liberty

__all__ = ["Gate", "Gates"]

Net = int


@dataclass(frozen=True)
class Gate:
    """A cell of the netlist: ``nets`` by pin; of an output that goes nowhere, none."""

    name: str
    cell: Cell
    nets: Mapping[str, Net]


class Gates:
    """A module as ``Flow.netlist`` gives it.

    Nets are numbers from 0 up; ``ZERO`` and ``ONE`` are the constants. ``ports``: direction and
    nets of each, lowest bit first. ``gates`` so that each one's inputs come before it, flops first.
    ``clock``: the net that clocks every flop, ``None`` without flops.

    ``ValueError`` for cells that the library lacks or that are not gates or plain flops, for loops,
    and for a second clock.
    """

    ZERO, ONE = 0, 1

    def __init__(self, module: Mapping[str, Any], library: Liberty) -> None:
        self.library = library
        self._nets: dict[Any, Net] = {"0": self.ZERO, "1": self.ONE, "x": self.ZERO}
        self.count = 2  # of nets
        self.ports = {name: (port["direction"], [self._net(bit) for bit in port["bits"]])
                      for name, port in module["ports"].items()}
        found = [self._gate(name, cell) for name, cell in sorted(module["cells"].items())]
        self.flops = [gate for gate in found if gate.cell.flop]
        self.gates = self._ordered([gate for gate in found if not gate.cell.flop])
        clocks = {gate.nets[next(iter(_flop(gate).clock.names))] for gate in self.flops}
        if len(clocks) > 1:
            raise ValueError("a netlist must have one clock, on its rising edge, not "
                             f"{len(clocks)}")
        self.clock = next(iter(clocks), None)

    def _net(self, bit: Any) -> Net:
        if bit not in self._nets:
            self._nets[bit] = self.count
            self.count += 1
        return self._nets[bit]

    def _gate(self, name: str, said: Mapping[str, Any]) -> Gate:
        cell = self.library.cells.get(said["type"])
        if cell is None or cell.other:
            raise ValueError(f"{name} must be a gate or a flop without set and reset of the "
                             f"library, not {said['type']}")
        if cell.flop and cell.flop.clock.text != f"{{{next(iter(cell.flop.clock.names), '')}}}":
            raise ValueError(f"{name} must be a flop of the rising edge, not {said['type']}")
        return Gate(name, cell, {pin: self._net(bits[0])
                                 for pin, bits in said["connections"].items() if bits})

    def _ordered(self, found: list[Gate]) -> list[Gate]:
        known = {self.ZERO, self.ONE}
        for direction, nets in self.ports.values():
            known |= set(nets) if direction == "input" else set()
        for gate in self.flops:
            known |= {gate.nets[pin] for pin in gate.cell.outputs if pin in gate.nets}
        ordered: list[Gate] = []
        while found:
            ready: list[Gate] = []
            waiting: list[Gate] = []
            for gate in found:
                driven = all(gate.nets[pin] in known for pin in gate.cell.inputs)
                (ready if driven else waiting).append(gate)
            if not ready:
                raise ValueError(f"gates must not form a loop, but {found[0].name} does, or has "
                                 "an input that nothing drives")
            ordered += ready
            known |= {gate.nets[pin] for gate in ready for pin in gate.cell.outputs
                      if pin in gate.nets}
            found = waiting
        return ordered

    @property
    def cells(self) -> list[Gate]:
        return [*self.flops, *self.gates]

    @cached_property
    def loads(self) -> list[float]:
        """pF of all pins on each net; wires weigh nothing."""
        found = [0.0] * self.count
        for gate in self.cells:
            for pin in gate.cell.inputs:
                found[gate.nets[pin]] += gate.cell.pins[pin].load
        return found

    @cached_property
    def inputs(self) -> dict[str, list[Net]]:
        """Of each input port but the clock's its nets."""
        return {name: nets for name, (direction, nets) in self.ports.items()
                if direction == "input" and nets != [self.clock]}

    @cached_property
    def slews(self) -> dict[Net, tuple[float, float]]:
        """ns of a rise and a fall of each net that a cell drives: of its slowest arc."""
        found: dict[Net, tuple[float, float]] = {}
        for gate in self.cells:
            for pin in gate.cell.outputs:
                if pin in gate.nets:
                    found[gate.nets[pin]] = self._edge(gate, pin, found)
        return found

    EDGE = 0.1
    """ns that an input of the whole takes to rise or to fall."""

    def slew(self, net: Net) -> tuple[float, float]:
        return self.slews.get(net, (self.EDGE, self.EDGE))

    def _edge(self, gate: Gate, pin: str, before: Mapping[Net, tuple[float, float]]
              ) -> tuple[float, float]:
        load = self.loads[gate.nets[pin]]
        edges = [(arc.rise_slew.at(load, slew), arc.fall_slew.at(load, slew))
                 for arc in gate.cell.pins[pin].arcs
                 for slew in before.get(gate.nets[arc.related], (self.EDGE, self.EDGE))]
        if not edges:
            return self.EDGE, self.EDGE
        return max(rise for rise, _ in edges), max(fall for _, fall in edges)


def _flop(gate: Gate):
    assert gate.cell.flop is not None
    return gate.cell.flop
