"""Proof that the writer's text is the RTLIL that it was made of, module by module.

Yosys reads both: the RTLIL, in which names are replaced by those of the text, and the text itself.
Wires of one name are cut points; instances of one name are one and the same black box, whose
inputs must agree. Every bit of every output, register and named wire is then proved equal, by SAT
over all values of what it depends on. Ports and initial values are compared as well.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gen.design import Design
from gen.leaves import Library
from gen.recorder import record
from gen.verilog import ModuleWriter
from synth.yosys import YosysError, quoted, run_yosys

__all__ = ["Claim", "Refuted", "claims", "prove"]

_TOGETHER = 40  # claims in one run of Yosys
_OTHER_PORTS = "Can't match"  # Yosys of a port that one text has and the other has not


class Refuted(Exception):
    """Text and RTLIL of a module differ, or could not be proved equal."""


@dataclass(frozen=True)
class Claim:
    """That ``verilog`` is ``rtlil``, both of module ``name``; ``boxes``: Verilog of the modules
    that it instantiates, as black boxes."""

    name: str
    rtlil: str = field(repr=False)
    verilog: str = field(repr=False)
    boxes: str = field(repr=False)

    @property
    def key(self) -> str:
        """Equal keys are one claim."""
        return hashlib.sha256("\0".join((self.rtlil, self.verilog, self.boxes)).encode()
                              ).hexdigest()


def claims(library: Library, top: str) -> list[Claim]:
    """A claim for each module of ``library``'s text but the macros."""
    design = record(library, top)
    writers = {writer.module.name[1:]: writer for writer in library.writers()}
    names = {writer.module.name: writer.names for writer in writers.values()}
    return [Claim(name, _renamed(writer, names), design.modules[name].text, _boxes(design, name))
            for name, writer in writers.items()]


def _boxes(design: Design, name: str) -> str:
    return "".join(design.modules[child].black_box for child in sorted(design.modules[name].cells))


def _renamed(writer: ModuleWriter, ports: Mapping[str, Mapping[str, str]]) -> str:
    """The RTLIL of the module, names as in its Verilog; a wire that gave way to another of the
    same value keeps its own."""
    names = {wire: name for wire, name in writer.names.items() if wire not in writer.aliases}
    lines, kind = [], ""

    def signal(words: Iterable[str]) -> str:
        return " ".join(f"\\{names[word]}" if word in names else word for word in words)

    for line in writer.module.text.split("\n"):
        body = line.lstrip()
        indent, words = line[:len(line) - len(body)], body.split(" ")
        if words[0] == "wire" or words[0] == "memory":
            words[-1] = signal(words[-1:])
        elif words[0] == "cell":
            kind = words[1]
            words[2] = signal(words[2:])
        elif words[0] == "connect" and indent:
            if words[2:] == ["{", "", "}"] and kind.startswith("\\"):
                continue  # a port of no bits, which the text leaves out
            port = ports.get(kind, {}).get(words[1])
            words = ["connect", f"\\{port}" if port else words[1], signal(words[2:])]
        elif words[0] in ("connect", "assign", "switch"):
            words = [words[0], signal(words[1:])]
        lines.append(indent + " ".join(words))
    return "\n".join(lines)


def prove(wanted: Iterable[Claim]) -> dict[str, int]:
    """How many bits of each claim's module were proved equal.

    ``Refuted`` names the first module that differs; ``YosysError`` where Yosys refuses a text.
    """
    wanted = list(wanted)
    proved: dict[str, int] = {}
    for start in range(0, len(wanted), _TOGETHER):
        proved |= _prove(wanted[start:start + _TOGETHER])
    return proved


def _prove(wanted: list[Claim]) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="ottava-writing-") as name:
        folder = Path(name)
        try:
            log = run_yosys([line for number, claim in enumerate(wanted)
                             for line in _script(claim, folder, number)])
        except YosysError as error:
            if _OTHER_PORTS not in str(error):
                raise
            raise Refuted(f"{', '.join(claim.name for claim in wanted)}: {error}") from None
        for number, claim in enumerate(wanted):
            modules = json.loads((folder / f"{number}.json").read_text())["modules"]
            _compare(claim, modules["gold"], modules["gate"])
    return _counts(wanted, log)


def _counts(wanted: list[Claim], log: str) -> dict[str, int]:
    """How many bits of each claim are proved, from the log; all of them must be."""
    proved, name = dict.fromkeys((claim.name for claim in wanted), 0), ""
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ["PROVING"]:
            name = words[1]
        elif words[:3] == ["Of", "those", "cells"]:  # ... 302 are proven and 0 are unproven.
            if words[7] != "0":
                raise Refuted(f"{name}: {words[7]} bits of {int(words[3]) + int(words[7])} "
                              "could not be proved equal")
            proved[name] = int(words[3])
    for name, bits in proved.items():
        if not bits:
            raise Refuted(f"{name}: no bit was compared")
    return proved


def _script(claim: Claim, folder: Path, number: int) -> list[str]:
    paths = [folder / f"{number}{ending}" for ending in (".il", ".v", ".box.v")]
    for path, text in zip(paths, (claim.rtlil, claim.verilog, claim.boxes), strict=True):
        path.write_text(text)
    return ["design -reset",
            *([f"read_verilog -lib {quoted(paths[2])}"] if claim.boxes else []),
            f"read_rtlil {quoted(paths[0])}", f"rename {claim.name} gold",
            f"read_verilog {quoted(paths[1])}", f"rename {claim.name} gate",
            "proc -norom", "memory_collect", "memory_map", "opt_clean",
            f"write_json {quoted(folder / f'{number}.json')}",
            "equiv_make gold gate equiv", "opt_clean equiv", "cd equiv",
            "equiv_simple -ignore-unknown-cells",
            "equiv_induct -ignore-unknown-cells", f"log PROVING {claim.name}",
            "equiv_status", "cd .."]


def _compare(claim: Claim, gold: dict, gate: dict) -> None:
    """Ports, and initial values of registers."""
    ports = [{name: (port["direction"], len(port["bits"]))
              for name, port in module["ports"].items() if port["bits"]}
             for module in (gold, gate)]
    if ports[0] != ports[1]:
        differ = sorted(set(ports[0].items()) ^ set(ports[1].items()))
        raise Refuted(f"{claim.name}: port {differ[0]} is in one of the texts alone")
    mine, other = _initial(gold), _initial(gate)
    for bit in mine.keys() & other.keys():
        if mine[bit] != other[bit]:
            raise Refuted(f"{claim.name}: {bit} starts as {other[bit]} in the text, not as "
                          f"{mine[bit]}")


def _initial(module: dict) -> dict[str, str]:
    """The initial value of each named bit of a register."""
    held = {bit for cell in module["cells"].values() if cell["type"] == "$dff"
            for bit in cell["connections"]["Q"]}
    values: dict[int | str, str] = {}
    for net in module["netnames"].values():
        bits = net["attributes"].get("init")
        if bits is not None:
            values |= {bit: value for bit, value in zip(net["bits"], bits[::-1], strict=False)
                       if value in "01"}
    return {f"{name}[{index}]": values.get(bit, "x")
            for name, net in module["netnames"].items() if not net["hide_name"]
            for index, bit in enumerate(net["bits"]) if bit in held}
