"""Flat ports: what a file of Verilog promises, whatever interfaces the design is made of inside.

Components take interfaces and records as they come. The modules that users instantiate, the top
and those of ``gen.block``, have one plain port a signal instead, under names that stay.
"""

from collections.abc import Iterator, Mapping

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Member

from gen.amaranth_private import mark_used
from hdl.codec.operand import Operand, OperandLayout
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["ACCELERATOR_PORTS", "Flat", "flat_accelerator"]

ACCELERATOR_PORTS = {"s_axi_ctrl": "s_axi_ctrl_", "m_axi_gmem.read": "m_axi_gmem_",
                     "m_axi_gmem.write": "m_axi_gmem_"}


class Flat(Elaboratable):
    """``component`` with the parts of some of its members as ports of their own.

    ``starts``: for each such member, or interface within one (``bus.read``), the start of its
    ports' names, perhaps empty. An interface gives its members, their names joined with ``_``; an
    operand ``sign exponent significand is_zero is_nar``, its hidden bit always set, or ``number``;
    any other record its fields. All other ports are the component's. The module is the component's
    own, with nothing around it. ``ValueError`` where two ports would have one name.
    """

    def __init__(self, component: wiring.Component, starts: Mapping[str, str]) -> None:
        self.component = component
        self._records: list[tuple[Member, data.View, dict[str, Signal]]] = []
        members: dict[str, Member] = {}
        for name, member in component.signature.members.items():
            value = getattr(component, name)
            given = {path: start for path, start in starts.items() if path.split(".")[0] == name}
            found = dict(self._parts(given, name, member, value)) if given else {
                name: (member, value)}
            for port, (shape, signal) in found.items():
                if port in members:
                    raise ValueError(f"two ports are called {port!r}")
                members[port] = shape
                setattr(self, port, signal)
        self.signature = wiring.Signature(members)

    def _parts(self, starts: Mapping[str, str], name: str, member: Member, value
               ) -> Iterator[tuple[str, tuple]]:
        if member.is_signature:
            for path, inner, signal in member.signature.flatten(value):
                places = {".".join((name, *map(str, path[:depth]))): path[depth:]
                          for depth in range(len(path))}
                start = next((place for place in reversed(places) if place in starts), name)
                rest = "_".join(map(str, places[start]))
                yield starts.get(start, f"{name}_") + rest, (inner, signal)
            return
        start = starts[name]
        shapes = _operand_shapes(member.shape) if isinstance(member.shape, OperandLayout) else {
            name: field.shape for name, field in member.shape}
        signals = {name: Signal(shape, name=start + name) for name, shape in shapes.items()}
        self._records.append((member, value, signals))
        for name, shape in shapes.items():
            yield start + name, (member.flow(shape), signals[name])

    def elaborate(self, platform) -> Module:
        mark_used(self.component)  # its module is this one's
        m = self.component.elaborate(platform)
        for member, record, signals in self._records:
            if member.flow == In:
                fields = _from_ports(signals) if isinstance(record, Operand) else signals
                m.d.comb += [record[name].eq(value) for name, value in fields.items()]
            else:
                fields = _to_ports(record) if isinstance(record, Operand) else record
                m.d.comb += [signal.eq(fields[name]) for name, signal in signals.items()]
        return m


def _operand_shapes(layout: OperandLayout) -> dict[str, object]:
    shapes = {name: field.shape for name, field in layout}
    if "number" in shapes:
        return shapes
    return {"sign": shapes["sign"], "exponent": shapes["exponent"],
            "significand": shapes["fraction"] + shapes["nonzero"], "is_zero": 1,
            "is_nar": shapes["is_nar"]}


def _from_ports(signals: Mapping[str, Signal]) -> dict[str, Value]:
    """An operand's fields from its ports."""
    if "number" in signals:
        return dict(signals)
    fields = {name: signals[name] for name in ("sign", "exponent", "is_nar")}
    return fields | {"fraction": signals["significand"][:-1], "nonzero": ~signals["is_zero"]}


def _to_ports(operand: Operand) -> dict[str, Value]:
    """An operand's ports from its fields."""
    if "number" in operand.shape().members:
        return {"number": operand.number}
    return {"sign": operand.sign, "exponent": operand.exponent,
            "significand": Cat(operand.fraction, Const(1, 1)), "is_zero": operand.is_zero,
            "is_nar": operand.is_nar}


def flat_accelerator(config: AcceleratorConfig, surroundings: Surroundings | None = None) -> Flat:
    """The accelerator with the ports of its file: ``s_axi_ctrl_*`` and ``m_axi_gmem_*`` among
    them."""
    from hdl.top import Accelerator

    return Flat(Accelerator(config, surroundings), ACCELERATOR_PORTS)
