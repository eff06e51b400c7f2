"""Every use of a name that Amaranth keeps to itself, so that a new release is tried in one place.

``pyproject.toml`` pins the release. Nothing else of the project names what begins with an
underscore in Amaranth; ``tests/gen/test_private.py`` looks for it.
"""

import os
from collections.abc import Iterator, Mapping

from amaranth.back import verilog
from amaranth.hdl import Elaboratable, Fragment, Signal, Value, ValueLike, _ast
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

__all__ = ["assignments", "directed", "mark_used", "signals_of", "yosys_verilog"]


def mark_used(component: Elaboratable) -> None:
    """Let ``component`` go without a warning that nobody elaborated it."""
    component._MustUse__used = True


def directed(ports: Mapping[str, tuple[Value, wiring.Flow]]
             ) -> dict[str, tuple[Value, PortDirection]]:
    """``ports`` as ``amaranth.back`` takes them, which then keeps those that nothing uses."""
    return {name: (value, PortDirection.Input if flow == wiring.In else PortDirection.Output)
            for name, (value, flow) in ports.items()}


def yosys_verilog(rtlil_text: str) -> str:
    """Verilog of RTLIL text by the Yosys that came with Amaranth, without its own attributes."""
    # An old Yosys on PATH would write other text, or fail.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    return verilog._convert_rtlil_text(rtlil_text, strip_internal_attrs=True)


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
