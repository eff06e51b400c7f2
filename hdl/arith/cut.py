"""Registers in the middle of a unit that is otherwise combinational."""

from collections.abc import Callable, Sequence

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["cut_members", "cut_name", "holder", "holders"]


def cut_members(cuts: int) -> dict[str, wiring.Member]:
    """What cuts add to a unit's ports: ``enable``, with which its registers move."""
    return {"enable": In(1)} if cuts else {}


def cut_name(name: str, cuts: int) -> str:
    """``leaf_name`` of the unit that is called ``name`` without a cut."""
    return f"{name}_cut{cuts if cuts > 1 else ''}" if cuts else name


def holder(m: Module, enable: Value | None, cycles: int = 1, prefix: str = "held"
           ) -> Callable[[Value, str], Value]:
    """A function that takes values across a cut: hold(value, name) is ``value`` as many
    ``cycles`` with ``enable`` later, or ``value`` itself where that is ``None``: there is no
    cut."""

    def hold(value: Value, name: str) -> Value:
        if enable is None:
            return value
        for cycle in range(cycles):
            begin = prefix if cycle == 0 else f"{prefix}{cycle + 1}"
            held = Signal.like(value, name=f"{begin}_{name}", reset_less=True)
            with m.If(enable):
                m.d.sync += held.eq(value)
            value = held
        return value

    return hold


def holders(m: Module, unit: wiring.Component, places: Sequence[str],
            taken: Sequence[Sequence[str]]) -> list[Callable[[Value, str], Value]]:
    """A function as of ``holder`` for each of ``places``, in their order; ``taken`` says at which
    of them a unit with 0, 1 … ``cuts`` has its registers."""
    chosen = taken[unit.cuts]  # type: ignore[attr-defined]
    return [holder(m, unit.enable if place in chosen else None,  # type: ignore[attr-defined]
                   prefix="held" if len(chosen) < 2 else f"held_{place}") for place in places]
