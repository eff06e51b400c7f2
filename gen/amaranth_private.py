"""Every use of a name that Amaranth keeps to itself, so that a new release is tried in one place.

``pyproject.toml`` pins the release. Nothing else of the project names what begins with an
underscore in Amaranth; ``tests/gen/test_private.py`` looks for it.
"""

import os
from collections.abc import Mapping

from amaranth.back import verilog
from amaranth.hdl import Elaboratable, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring

__all__ = ["directed", "mark_used", "yosys_verilog"]


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
