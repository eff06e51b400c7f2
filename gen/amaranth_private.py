"""Every use of a name that Amaranth keeps to itself, so that a new release is tried in one place.

``pyproject.toml`` pins the release. Nothing else of the project names what begins with an
underscore in Amaranth; ``tests/gen/test_private.py`` looks for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Fragment, Signal, Value, ValueLike, _ast, _ir, _nir
from amaranth.hdl._ir import PortDirection
from amaranth.lib import data, wiring

__all__ = ["RELEASE", "are_quick", "assignments", "directed", "fields_of", "mark_used",
           "quick_netlists", "signals_of"]

RELEASE = "0.5.10"  # the one whose netlists ``quick_netlists`` knows
_KNOWN = version("amaranth") == RELEASE

_COMBINATIONAL = (_nir.Operator, _nir.Part, _nir.AssignmentList, _nir.Matches, _nir.PriorityMatch,
                  _nir.AsyncReadPort)
_OTHERS = (_nir.Top, _nir.FlipFlop, _nir.Instance, _nir.Memory, _nir.SyncWritePort,
           _nir.SyncReadPort)
_new_value = _nir.Value.__dict__["__new__"]
_check_cycles = _nir.Netlist.check_comb_cycles
_structured: dict[str, dict[str, Signal]] = {}


def mark_used(component: Elaboratable) -> None:
    """Let ``component`` go without a warning that nobody elaborated it."""
    component._MustUse__used = True


def directed(ports: Mapping[str, tuple[Value, wiring.Flow]]
             ) -> dict[str, tuple[Value, PortDirection]]:
    """``ports`` as ``amaranth.back`` takes them, which then keeps those that nothing uses."""
    return {name: (value, PortDirection.Input if flow == wiring.In else PortDirection.Output)
            for name, (value, flow) in ports.items()}


def signals_of(value: ValueLike) -> list[Signal]:
    """Signals whose bits ``value`` holds; what only selects among them is left out."""
    match Value.cast(value):
        case Signal() as signal:
            return [signal]
        case _ast.Operator(operands=parts) | _ast.Concat(parts=parts):
            return [signal for part in parts for signal in signals_of(part)]
        case _ast.Slice(value=inner) | _ast.Part(value=inner):
            return signals_of(inner)
        case _ast.SwitchValue(cases=cases):
            return [signal for _, part in cases for signal in signals_of(part)]
        case other:
            return list(other._rhs_signals())


def assignments(fragment: Fragment) -> Iterator[tuple[list[Signal], list[Signal]]]:
    """Of each assignment of ``fragment`` itself the signals that are written and read; conditions
    are left out."""
    todo = [statement for part in fragment.statements.values() for statement in part]
    while todo:
        match todo.pop():
            case _ast.Assign(lhs=target, rhs=source):
                yield list(target._lhs_signals()), signals_of(source)
            case _ast.Switch(cases=cases):
                todo += [statement for case in cases for statement in case[1]]


def are_quick() -> bool:
    """Whether netlists are being built quickly."""
    return _nir.Value.__dict__["__new__"] is not _new_value


@contextmanager
def quick_netlists() -> Iterator[dict[str, dict[str, Signal]]]:
    """Let Amaranth build its netlists in half of the time, with the same result but for wires that
    name the fields of structures: gives instead, by module and wire, the signals that have some.

    A value is made of nets without asking each whether it is one, the size of a layout is added up
    once, and combinational cycles are looked for between cells first, between bits only where
    cells form one: where bits do, Amaranth itself finds and names them. Another release than
    ``RELEASE`` is left as it is.
    """
    if not _KNOWN or are_quick():
        yield _structured
        return
    patches = [(_nir.Value, "__new__", staticmethod(_value)),
               (_nir.Net, "from_cell", classmethod(_from_cell)),
               (_nir.Netlist, "check_comb_cycles", _find_cycles),
               (_nir.Netlist, "add_value_cell", _add_value_cell),
               (_nir.Netlist, "resolve_value", _resolve_value),
               (_ir.NetlistEmitter, "emit_signal_fields", _emit_no_fields),
               (rtlil.ModuleEmitter, "emit_signal_fields", _note_fields)]
    patches += [(place, name, _remembered(place, name))
                for place, name in ((data.StructLayout, "size"), (data.Field, "width"))]
    before = [place.__dict__[name] for place, name, _ in patches]
    for place, name, quick in patches:
        setattr(place, name, quick)
    try:
        yield _structured
    finally:
        for (place, name, _), slow in zip(patches, before, strict=True):
            setattr(place, name, slow)
        _structured.clear()


def fields_of(signal: Signal) -> Iterator[tuple[str, int, int]]:
    """Fields of a signal that is a structure, as a suffix of its name, lowest bit and width; their
    own fields too."""
    todo = [("", signal._format)]
    while todo:
        path, found = todo.pop()
        match found:
            case _ast.Format.Struct(_fields=parts):
                todo += [(f"{path}.{name}", part) for name, part in parts.items()]
            case _ast.Format.Array(_fields=parts):
                todo += [(f"{path}[{index}]", part) for index, part in enumerate(parts)]
        if path:
            value = found._chunks[0][0] if isinstance(found, _ast.Format) else found._value
            yield path, *_bits_of(value)


def _bits_of(value: Value) -> tuple[int, int]:
    """Lowest bit and width of a part of a signal."""
    low, width = 0, len(value)
    while not isinstance(value, Signal):
        if isinstance(value, _ast.Slice):
            low, value = low + value.start, value.value
        else:
            value = value.operands[0]  # as_signed
    return low, width


def _emit_no_fields(emitter: _ir.NetlistEmitter) -> None:
    netlist = emitter.netlist
    for signal in emitter.design.signal_lca:
        value, signed = emitter.emit_signal(signal), signal.shape().signed
        netlist.signal_fields[signal] = {(): _nir.SignalField(value, signed=signed)}


def _note_fields(emitter: rtlil.ModuleEmitter) -> None:
    noted = _structured.setdefault(emitter.builder.name.replace(".", "__"), {})
    for signal, name in emitter.module.signal_names.items():
        if isinstance(signal._format, _ast.Format.Struct | _ast.Format.Array):
            noted[name] = signal


def _value(cls: type, nets: Iterable[_nir.Net] = ()) -> _nir.Value:
    return tuple.__new__(cls, (nets,) if type(nets) is _nir.Net else nets)


def _from_cell(cls: type, cell: int, bit: int) -> _nir.Net:
    return int.__new__(cls, cell << 16 | bit)


def _remembered(place: type, name: str) -> cached_property:
    """A property of objects that do not change, asked once of each."""
    found = cached_property(place.__dict__[name].fget)
    found.__set_name__(place, name)
    return found


def _add_value_cell(netlist: _nir.Netlist, width: int, cell: _nir.Cell) -> _nir.Value:
    first = netlist.add_cell(cell) << 16
    return tuple.__new__(_nir.Value, map(_nir.Net, range(first, first + width)))


def _resolve_value(netlist: _nir.Netlist, value: _nir.Value) -> _nir.Value:
    driver = netlist.connections.get
    resolved = [driver(net, net) for net in value]
    while min(resolved, default=0) < 0:  # chains, unless they were straightened before
        resolved = [driver(net, net) for net in resolved]
    return tuple.__new__(_nir.Value, resolved)


def _find_cycles(netlist: _nir.Netlist) -> None:
    """``CombinationalCycle`` where bits of ``netlist`` drive themselves."""
    if not _straighten(netlist.connections) or not all(
            isinstance(cell, (*_COMBINATIONAL, *_OTHERS)) for cell in netlist.cells):
        _check_cycles(netlist)
        return
    found = netlist.connections
    reads = {}
    for number, cell in enumerate(netlist.cells):
        if isinstance(cell, _COMBINATIONAL):
            reads[number] = {found.get(net, net) >> 16 for net in cell.input_nets()}
        elif isinstance(cell, _nir.FlipFlop):
            reads[number] = {found.get(net, net) >> 16 for net in (cell.clk, cell.arst)}
    cells = _on_cycles(reads)
    bits = {net: {found.get(source, source) for source, _ in
                  netlist.cells[number].comb_edges_to(net & 0xffff)}
            for number in cells for net in netlist.cells[number].output_nets(number)}
    if _on_cycles(bits):
        _check_cycles(netlist)


def _straighten(connections: dict[_nir.Net, _nir.Net]) -> bool:
    """Connect each net to where its chain of connections ends; ``False`` where one has no end."""
    for net, end in connections.items():
        path = []
        while end < 0:
            path.append(end)
            end = connections[end]
            if len(path) > len(connections):
                return False
        for other in (net, *path) if path else ():
            connections[other] = end
    return True


def _on_cycles(reads: Mapping[int, set]) -> set[int]:
    """What is left of a graph, a node to those that it reads, without those that read nothing
    left: nothing, unless there are cycles."""
    users: dict[int, list[int]] = {}
    waits = {}
    for node, sources in reads.items():
        there = [source for source in sources if source in reads]
        waits[node] = len(there)
        for source in there:
            users.setdefault(source, []).append(node)
    ready = [node for node, count in waits.items() if not count]
    while ready:
        node = ready.pop()
        del waits[node]
        for user in users.get(node, ()):
            waits[user] -= 1
            if not waits[user]:
                ready.append(user)
    return set(waits)
