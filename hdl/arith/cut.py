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


def holder(m: Module, enable: Value | None) -> Callable[[Value, str], Value]:
    """A function that takes values across the cut: hold(value, name) is ``value`` one cycle with
    ``enable`` later, or ``value`` itself where that is ``None``: there is no cut."""

    def hold(value: Value, name: str) -> Value:
        if enable is None:
            return value
        held = Signal.like(value, name=f"held_{name}", reset_less=True)
        with m.If(enable):
            m.d.sync += held.eq(value)
        return held

    return hold
