"""Proof that what the flow mapped is what was written: the netlist equals its Verilog.

A combinational unit is proved by SAT over all its inputs. A clocked one is proved register by
register: the flow keeps every register, so that equal inputs and states must give equal outputs
and next states.
"""

import tempfile
from pathlib import Path

from gen.design import Design
from synth.flow import Flow
from synth.hierarchy import Hierarchy
from synth.yosys import YosysError, quoted, run_yosys

__all__ = ["YosysError", "prove_mapping"]


def prove_mapping(flow: Flow, design: Design, spoil: str | None = None) -> None:
    """Map the top of ``design`` by ``flow`` and prove the netlist; ``YosysError`` when it fails.

    The top must hold no black box. ``spoil``: a Yosys command that is applied to the netlist
    before the proof, so that a test can see it fail.
    """
    unit = design.top
    if Hierarchy(design).units != {unit}:
        raise ValueError(f"unit must be mapped whole, not {unit!r}")
    with tempfile.TemporaryDirectory(prefix="ottava-prove-") as name:
        folder = Path(name)
        source = folder / "unit.v"
        source.write_text(design.text)
        netlist = folder / "netlist.v"
        run_yosys([*flow.commands(source, unit, flow.script), *([spoil] if spoil else []),
                   f"write_verilog -noattr {quoted(netlist)}"])
        run_yosys([
            f"read_verilog {quoted(source)}",
            f"hierarchy -top {unit}", "proc -norom", "flatten", "opt_clean", "design -stash gold",
            f"read_liberty -ignore_miss_func {quoted(flow.library.path.resolve())}",
            f"read_verilog {quoted(netlist)}",
            f"hierarchy -top {unit}", "flatten", "opt_clean", "design -stash gate",
            f"design -copy-from gold -as gold {unit}", f"design -copy-from gate -as gate {unit}",
            *(_by_registers() if design.modules[unit].is_clocked else _by_sat())])


def _by_sat() -> list[str]:
    return ["miter -equiv -flatten -make_outputs gold gate miter",
            "hierarchy -top miter", "sat -verify -prove trigger 0 -set-def-inputs miter"]


def _by_registers() -> list[str]:
    return ["async2sync", "equiv_make gold gate equiv", "hierarchy -top equiv", "opt_clean",
            "equiv_simple -undef", "equiv_induct -undef", "equiv_status -assert"]
