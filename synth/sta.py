"""OpenSTA, an analyser of timing and power by others: what each cell's toggle costs by it.

It reads the same Liberty file, computes loads and slews itself and looks energies up by its own
rules; the toggles are those of ``synth.toggles``. Debian's release cannot be told how often a pin
toggles: it propagates activities of its own. It can be told that all pins toggle once a cycle, or
never, and then gives each cell's power: that is its energy of a toggle. ``ToolMissing`` where it is
not on this machine.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gen.cli.folders import checkout
from synth.gates import Gates
from synth.library import Library
from synth.lint import ToolMissing
from synth.toggles import Trace

__all__ = ["StaError", "sta_command", "sta_energy"]

_CELL = re.compile(r"^ *(\S+) +(\S+) +\S+ +\S+ (u\d+)$", re.M)
_PIN = re.compile(r"\bpin *\([^)]*\) *\{")
_INPUT = re.compile(r"\bdirection *: *\"?input")
_POWER = re.compile(r"\binternal_power *\([^)]*\) *\{")
_BRACKET = re.compile(r"[{}]")
_MARK = "next-activity"
_PERIOD = 100.0  # ns: powers are over it, and no path is too long
_PJ = _PERIOD * 1000  # of a W over a period of ns


class StaError(Exception):
    """OpenSTA stopped; the text is its last line."""


def sta_command() -> Path:
    """The program: of PATH, or as the set-up makes it."""
    own = ((checkout() or Path(sys.prefix)) / ".venv", Path(sys.prefix))
    for path in (shutil.which("sta"), *(root / "bin/sta" for root in own)):
        if path is not None and os.access(path, os.X_OK):
            return Path(path)
    raise ToolMissing("OpenSTA is not here: `make setup` unpacks it where a Debian archive "
                      "(package opensta) can be reached")


def _verilog(gates: Gates) -> str:
    """The netlist with every bit a port of its own; cells are u0, u1 and so on."""
    ports, body, names = [], [], {Gates.ZERO: "1'b0", Gates.ONE: "1'b1"}
    for direction, nets in gates.ports.values():
        if direction == "input":
            ports += [("input", f"n{net}") for net in nets]
            names |= {net: f"n{net}" for net in nets}
    for gate in gates.cells:
        names |= {gate.nets[pin]: f"n{gate.nets[pin]}" for pin in gate.cell.outputs
                  if pin in gate.nets}
    for name, (direction, nets) in gates.ports.items():
        if direction == "output":
            for index, net in enumerate(nets):
                ports.append(("output", f"{name}_{index}"))
                body.append(f"  assign {name}_{index} = {names[net]};")
    for number, gate in enumerate(gates.cells):
        pins = ", ".join(f".{pin}({names[net]})" for pin, net in gate.nets.items())
        body.append(f"  {gate.cell.name} u{number} ({pins});")
    heads = "".join(f"  {direction} {name};\n" for direction, name in ports)
    return (f"module probe ({', '.join(name for _, name in ports)});\n{heads}"
            + "\n".join(body) + "\nendmodule\n")


def _stripped(text: str) -> str:
    """A Liberty text whose input pins have no energy of their own."""
    made, at = [], 0
    for pin in _PIN.finditer(text):
        if pin.start() < at:
            continue
        end = _end(text, pin.end())
        made.append(text[at:pin.start()])
        own, at = text[pin.start():end], end
        if _INPUT.search(own):
            while (inner := _POWER.search(own)) is not None:
                own = own[:inner.start()] + own[_end(own, inner.end()):]
        made.append(own)
    return "".join(made) + text[at:]


def _end(text: str, at: int) -> int:
    """Behind the group whose bracket is open at ``at``."""
    depth = 1
    while depth:
        found = _BRACKET.search(text, at)
        if found is None:
            raise ValueError("liberty must have as many closing brackets as opening ones")
        depth += 1 if found[0] == "{" else -1
        at = found.end()
    return at


def _script(gates: Gates, library: Path, netlist: Path, activities: Sequence[int]) -> str:
    clock = f"[get_ports n{gates.clock}]" if gates.clock is not None else ""
    lines = [f"read_liberty {{{library}}}", f"read_verilog {{{netlist}}}", "link_design probe",
             f"create_clock -name clock -period {_PERIOD} {clock}",
             f"set_clock_transition {Gates.EDGE} [get_clocks clock]"]
    if clock:  # powers take the slew of the port, paths that of the clock
        lines.append(f"set_input_transition {Gates.EDGE} {clock}")
    for nets in gates.inputs.values():
        for net in nets:
            lines += [f"set_input_transition {Gates.EDGE} [get_ports n{net}]",
                      f"set_input_delay 0 -clock clock [get_ports n{net}]"]
    for activity in activities:
        lines += [f"set_power_activity -global -activity {activity} -duty 0.5",
                  f"puts {_MARK}", "report_power -instances [get_cells u*] -digits 10"]
    return "\n".join([*lines, "exit", ""])


def _run(gates: Gates, library: str, activities: Sequence[int]
         ) -> list[dict[str, tuple[float, float]]]:
    """Of each activity, W inside each cell and on what it drives, by name."""
    with tempfile.TemporaryDirectory(prefix="ottava-sta-") as name:
        folder = Path(name)
        netlist, script, cells = (folder / f"probe.{end}" for end in ("v", "tcl", "lib"))
        netlist.write_text(_verilog(gates))
        cells.write_text(library)
        script.write_text(_script(gates, cells, netlist, activities))
        done = subprocess.run([str(sta_command()), "-no_splash", "-exit", str(script)], text=True,
                              cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, "HOME": name})
    found = [{match[3]: (float(match[1]), float(match[2])) for match in _CELL.finditer(part)}
             for part in done.stdout.split(f"{_MARK}\n")[1:]]
    if done.returncode or len(found) != len(activities) or any(
            len(own) != len(gates.cells) for own in found):
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise StaError((lines or ["no message"])[-1])
    return found


def sta_energy(library: Library, trace: Trace) -> tuple[float, float]:
    """pJ a cycle inside cells and on the nets that they drive: each cell's energy of a toggle by
    OpenSTA, × its toggles in ``trace``. ``StaError`` where it stops.

    Debian's release adds the energies of a rise and of a fall for every toggle of an output and of
    a clock pin, where later ones take their mean: these are halved here, and a test holds the
    release to that by a cell that is computed by hand.
    """
    gates = trace.gates
    outputs, = _run(gates, _stripped(library.text), [1])
    clocks, every = _run(gates, library.text, [0, 1])
    internal = switching = 0.0
    for number, gate in enumerate(gates.cells):
        name = f"u{number}"
        out = [trace.toggles(gate.nets[pin]) for pin in gate.cell.outputs if pin in gate.nets]
        own = [trace.toggles(gate.nets[pin]) for pin in gate.cell.inputs
               if gate.cell.pins[pin].energies and gate.nets[pin] != gates.clock]
        caused = sum(out) / len(out) / trace.edges if out else 0.0
        passive = sum(own) / len(own) / trace.edges if own else 0.0
        inside = every[name][0] - outputs[name][0] - clocks[name][0]
        internal += clocks[name][0] / 2 + outputs[name][0] / 2 * caused + inside * passive
        switching += outputs[name][1] * caused
    return internal * _PJ, switching * _PJ
