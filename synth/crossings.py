"""``python -m synth.crossings``: every path between the two clocks of a build, read off its text.

Yosys flattens the Verilog of a build whose control port has a clock of its own. From each register
and each input of one clock, cells are followed to the registers, memories and outputs of the
other. What passes must be a *level*, a register whose bit is the input of a synchroniser, or a
*word*, whose bits are the inputs of registers that take them on a condition of their own clock and
hold otherwise. Anything else is a fault: exit code 1.
"""

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.cached import generated
from gen.cli import Parser, add_config_flags, config_from, piped
from hdl.spec.surroundings import RESETS, Surroundings
from synth.yosys import quoted, run_yosys

__all__ = ["LEVEL", "WORD", "Crossing", "crossings", "main"]

LEVEL, WORD = "level", "word"
_CLOCKS = ("aclk", "s_axi_ctrl_aclk")
_FIRST, _INPUT = ".stages", ".d"  # of a synchroniser
_PORT = "port"
_NO_CLOCK = ["x"]  # of a memory's read, whose register is a cell of its own


@dataclass(frozen=True, order=True)
class Crossing:
    """``bits`` from register or input ``giver`` to register or output ``taker`` of clock ``to``.

    ``kind``: ``LEVEL``, ``WORD``, or in words what is wrong.
    """

    giver: str
    taker: str
    to: str
    kind: str
    bits: int = 1


class _Netlist:
    """A flattened module of Yosys' JSON: what drives which bit at which clock, and who reads it."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self.cells: dict[str, Any] = module["cells"]
        clocks = {module["ports"][name]["bits"][0]: name for name in _CLOCKS}
        self.clock: dict[str, str] = {}  # of registers, writes of memories and ports
        self.readers: dict[object, list[tuple[str, str]]] = defaultdict(list)
        self._drivers: dict[object, str] = {}
        self.givers: list[tuple[str, object]] = []
        for name, cell in self.cells.items():
            connections = cell["connections"]
            if connections.get("CLK", _NO_CLOCK) != _NO_CLOCK:
                self.clock[name] = clocks[connections["CLK"][0]]
                self.givers += [(name, bit) for bit in connections.get("Q", ())]
            for port, bits in connections.items():
                for bit in bits:
                    if cell["port_directions"][port] == "input":
                        self.readers[bit].append((name, port))
                    elif name not in self.clock:
                        self._drivers[bit] = name
        for name, port in module["ports"].items():
            if name in _CLOCKS:
                continue
            controls = name.startswith("s_axi_ctrl_") or name == "interrupt"
            self.clock[name] = _CLOCKS[controls]
            if port["direction"] == "input":
                self.givers += [(name, bit) for bit in port["bits"]]
            else:
                for bit in port["bits"]:
                    self.readers[bit].append((name, _PORT))
        # Nearly all registers are of one clock, and nearly nothing that they reach is not.
        self._leading = {clock: self._leading_to(clock) for clock in _CLOCKS}
        self._names: dict[object, list[str]] = defaultdict(list)
        for name, net in module["netnames"].items():
            if not net["hide_name"]:
                for bit in net["bits"]:
                    self._names[bit].append(name)

    def _leading_to(self, clock: str) -> set[object]:
        """Bits that reach a register or output of ``clock``."""
        found = {bit for bit, readers in self.readers.items()
                 if any(self.clock.get(cell) == clock for cell, _ in readers)}
        todo = list(found)
        while todo:
            driver = self._drivers.get(todo.pop())
            cell = self.cells[driver] if driver else {"connections": {}}
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    new = set(bits) - found
                    found |= new
                    todo += new
        return found

    def name(self, register: str) -> str:
        """The shortest of the deepest names of what a register holds, that of a synchroniser's
        input aside; of a port its own, of a write its memory's."""
        if register not in self.cells:
            return register
        cell = self.cells[register]
        if "Q" not in cell["connections"]:
            return cell["parameters"]["MEMID"].removeprefix("\\")
        found = self._names[cell["connections"]["Q"][0]]
        return min(found, key=lambda name: (name.endswith(_INPUT), -name.count("."), len(name),
                                            name), default=register)

    def reached(self, start: object, clock: str) -> Iterator[tuple[str, str, bool]]:
        """Registers, writes and ports of ``clock`` that bit ``start`` reaches, by which of their
        ports, and whether there is no cell between."""
        leading = self._leading[clock]
        seen, todo = {start}, [(start, True)] if start in leading else []
        while todo:
            bit, straight = todo.pop()
            for cell, port in self.readers[bit]:
                if cell in self.clock:
                    if self.clock[cell] == clock:
                        yield cell, port, straight
                    continue
                for name, bits in self.cells[cell]["connections"].items():
                    if self.cells[cell]["port_directions"][name] == "output":
                        new = [(one, False) for one in bits
                               if one in leading and one not in seen]
                        seen.update(one for one, _ in new)
                        todo += new


def crossings(text: str, top: str) -> list[Crossing]:
    """Every crossing of module ``top`` of the Verilog ``text``, sorted; ``YosysError``."""
    with tempfile.TemporaryDirectory(prefix="ottava-crossings-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(text)
        run_yosys([f"read_verilog {quoted(folder / 'design.v')}", f"hierarchy -top {top}", "proc",
                   "flatten", "opt_clean", "opt_expr", "opt_dff -nosdff", "opt_clean",
                   f"write_json {quoted(folder / 'design.json')}"])
        netlist = _Netlist(json.loads((folder / "design.json").read_text())["modules"][top])
    found: dict[Crossing, int] = defaultdict(int)
    for giver, bit in netlist.givers:
        (other,) = set(_CLOCKS) - {netlist.clock[giver]}
        for taker, port, straight in netlist.reached(bit, other):
            found[Crossing(netlist.name(giver), netlist.name(taker), other,
                           _kind(netlist, giver, taker, port, straight))] += 1
    return sorted(Crossing(one.giver, one.taker, one.to, one.kind, bits)
                  for one, bits in found.items())


def _kind(netlist: _Netlist, giver: str, taker: str, port: str, straight: bool) -> str:
    if giver not in netlist.cells or taker not in netlist.cells:
        return "a port of the other clock"
    if not straight:
        return "logic between"
    if port != "D":
        return f"to {port} of a register or memory"
    if netlist.name(taker).endswith(_FIRST):
        return LEVEL
    if "EN" in netlist.cells[taker]["connections"]:
        return WORD
    return "to a register that takes it at every edge"


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="synth.crossings", description=__doc__.splitlines()[0])
    add_config_flags(parser, output=False, dim=4)
    parser.add_argument("--reset", choices=RESETS, default="sync", help="resets (sync)")
    arguments = parser.parse_args(argv)
    try:
        config = config_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    around = Surroundings(reset=arguments.reset, control_clock=True)
    found = crossings(generated(config, surroundings=around).text, "ottava")
    for one in found:
        print(f"{one.kind:6} {one.bits:3} bits {one.giver} -> {one.taker} ({one.to})")
    wrong = [one for one in found if one.kind not in (LEVEL, WORD)]
    print(f"{len(found)} crossings, {sum(one.bits for one in found)} bits, {len(wrong)} faults")
    return int(bool(wrong) or not found)


if __name__ == "__main__":
    sys.exit(piped(main))
