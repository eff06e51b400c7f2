"""A register in the middle of a unit that is otherwise combinational."""

from collections.abc import Callable

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["cut_members", "cut_name", "holder"]


def cut_members(cut: bool) -> dict[str, wiring.Member]:
    """What a cut adds to a unit's ports: ``enable``, with which its register moves."""
    return {"enable": In(1)} if cut else {}


def cut_name(name: str, cut: bool) -> str:
    """``leaf_name`` of the unit that is called ``name`` without a cut."""
    return f"{name}_cut" if cut else name


def holder(m: Module, unit: wiring.Component) -> Callable[[Value, str], Value]:
    """A function that takes values over the cut: hold(value, name) is ``value`` one cycle with
    ``unit.enable`` later, or ``value`` itself where ``unit.cut`` is false."""

    def hold(value: Value, name: str) -> Value:
        if not unit.cut:
            return value
        held = Signal.like(value, name=f"held_{name}", reset_less=True)
        with m.If(unit.enable):
            m.d.sync += held.eq(value)
        return held

    return hold
