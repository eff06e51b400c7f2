"""Energy of a run of a mapped netlist: toggles × Liberty: ``spent``.

A toggle of a net costs ½·C·V², C being the pins on it; a toggle of a cell's output what the file
says happens inside, by load and slew and by the input that caused it (the mean, where several
inputs changed in one cycle); a toggle of an input pin what the file says of it alone, as of a
clock pin. Wires weigh nothing: before placing they have no length. There is no clock tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from synth.gates import Gate, Gates
from synth.liberty import Energy
from synth.toggles import Trace, timed

__all__ = ["Spent", "leakage", "spent"]


@dataclass(frozen=True)
class Spent:
    """pJ a cycle: ``internal``: inside cells. ``switching``: on nets that cells drive. ``inputs``:
    on nets that ports drive but the clock's. ``clock``: of ``internal``, what clock pins take;
    their load is not in it but in ``inputs``. ``glitches``: what toggles that do not last add."""

    internal: float
    switching: float
    inputs: float
    clock: float
    glitches: float

    @property
    def cells(self) -> float:
        """What an analysis of power calls the cells': without what ports drive."""
        return self.internal + self.switching

    @property
    def settled(self) -> float:
        """All but glitches."""
        return self.cells + self.inputs

    @property
    def total(self) -> float:
        return self.settled + self.glitches


def leakage(gates: Gates) -> float:
    """mW of all cells."""
    return sum(gate.cell.leakage for gate in gates.cells)


def spent(trace: Trace) -> Spent:
    """Means over the trace's changes of cycle."""
    gates = trace.gates
    per_toggle = gates.library.volts ** 2 / 2
    with_delays = timed(trace)
    internal = clock = glitches = switching = 0.0
    driven = set()
    for gate in gates.cells:
        for pin in gate.cell.outputs:
            if pin not in gate.nets:
                continue
            net = gate.nets[pin]
            driven.add(net)
            settled = trace.toggles(net)
            inside, wire = _inside(trace, gate, pin), per_toggle * gates.loads[net] * settled
            internal += inside
            switching += wire
            if settled:
                glitches += (inside + wire) * (with_delays[net] / settled - 1)
            else:  # a net that pulses alone
                glitches += with_delays[net] * (per_toggle * gates.loads[net]
                                                + _each(gates, gate, pin))
        for pin in gate.cell.inputs:
            own = _passive(trace, gate, pin)
            internal += own
            if gate.nets[pin] == gates.clock:
                clock += own
    inputs = sum(per_toggle * gates.loads[net] * trace.toggles(net)
                 for net in range(gates.count) if net not in driven)
    cycles = trace.edges
    return Spent(internal / cycles, switching / cycles, inputs / cycles, clock / cycles,
                 glitches / cycles)


def _energy(energies: Sequence[Energy], load: float, slew: tuple[float, float]
            ) -> tuple[float, float]:
    """pJ of a rise and of a fall: the mean of ``energies``, of each the mean over its cause's
    edges."""
    rise = sum(one.rise.at(load, edge) for one in energies for edge in slew)
    fall = sum(one.fall.at(load, edge) for one in energies for edge in slew)
    return rise / (2 * len(energies)), fall / (2 * len(energies))


def _each(gates: Gates, gate: Gate, pin: str) -> float:
    """pJ inside of a toggle of an output, whatever caused it."""
    load = gates.loads[gate.nets[pin]]
    found = [sum(_energy([one], load, gates.slew(gate.nets[one.related]))) / 2
             for one in gate.cell.pins[pin].energies if one.related in gate.nets]
    return sum(found) / len(found) if found else 0.0


def _inside(trace: Trace, gate: Gate, pin: str) -> float:
    """pJ inside of all toggles of an output."""
    gates, net = trace.gates, gate.nets[pin]
    load, rises, falls = gates.loads[net], trace.rises(net), trace.falls(net)
    by_cause: dict[str, list[Energy]] = {}
    for one in gate.cell.pins[pin].energies:
        by_cause.setdefault(one.related, []).append(one)
    causes = {name: (_energy(own, load, gates.slew(gate.nets[name])), _changes(trace, gate, name))
              for name, own in by_cause.items() if name in gate.nets}
    found = 0.0
    names = list(causes)
    for pattern in range(1 << len(names)):
        events = rises | falls
        chosen = [name for index, name in enumerate(names) if pattern >> index & 1]
        for name in names:
            changes = causes[name][1]
            events &= changes if name in chosen else ~changes
        if events and names:
            blamed = chosen or names
            up, down = (events & rises).bit_count(), (events & falls).bit_count()
            found += sum(up * causes[name][0][0] + down * causes[name][0][1]
                         for name in blamed) / len(blamed)
    return found


def _changes(trace: Trace, gate: Gate, pin: str) -> int:
    """In which changes of cycle an input's net changes."""
    net = gate.nets[pin]
    if net == trace.gates.clock:
        return trace.mask >> 1
    return trace.rises(net) | trace.falls(net)


def _passive(trace: Trace, gate: Gate, pin: str) -> float:
    """pJ of all toggles of an input pin itself."""
    energies, net = gate.cell.pins[pin].energies, gate.nets[pin]
    if not energies:
        return 0.0
    rise, fall = _energy(energies, 0.0, trace.gates.slew(net))
    if net == trace.gates.clock:
        return trace.edges * (rise + fall)
    return trace.rises(net).bit_count() * rise + trace.falls(net).bit_count() * fall
