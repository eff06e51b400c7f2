"""Code coverage of generated Verilog: which lines and branches Verilator saw run.

Verilator counts every block of statements (``line``) and every side of every ``if``, ``case`` and
``?:`` (``branch``); a module's instances are counted together. Left out is what is no hardware:
the blocks that Yosys' writer adds to wake ``always @*``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Place", "describe", "hardware", "merged", "missing", "percent", "read"]

_LINE = re.compile(r"C '(.*)' (\d+)$")
_TEMPORARY = re.compile(r"(?<![\w$\\])_\d+\b")
_ASSIGN = re.compile(r"^  assign (_\d+) = (.*);$")
_REGISTER = re.compile(r"^    (.*?) ?<= (_\d+);$")
_TARGET = re.compile(r"^\s*(\\\S+ |[\w$]+)(?:\[[\d:]+\])?\s*<?= ")
_WAKE = "if (_wake) begin end"
_WIDEST = 90


@dataclass(frozen=True, order=True)
class Place:
    """A counted point: ``kind`` is ``line`` or ``branch``, ``arm`` Verilator's name of the side."""

    module: str
    line: int
    column: int
    kind: str
    arm: str


def read(data: str) -> dict[Place, int]:
    """Counts by place from the text that ``Accelerator.write_coverage`` writes."""
    counts: dict[Place, int] = {}
    for text in data.splitlines():
        found = _LINE.match(text)
        if found is None:
            continue
        fields = dict(part.split("\x02", 1) for part in found[1].split("\x01")[1:])
        kind, module = fields["page"].removeprefix("v_").split("/", 1)
        place = Place(module.split("__DOT__")[-1], int(fields["l"]), int(fields["n"]), kind,
                      fields["o"])
        counts[place] = counts.get(place, 0) + int(found[2])
    if not counts:
        raise ValueError("the coverage must count at least one line")
    return counts


def hardware(counts: dict[Place, int], verilog: str) -> dict[Place, int]:
    """``counts`` without the wake-ups of Yosys' writer."""
    lines = verilog.splitlines()
    return {place: count for place, count in counts.items()
            if _WAKE not in lines[place.line - 1]}


def merged(counts: Iterable[dict[Place, int]]) -> dict[Place, int]:
    """Counts of several runs of one design, added up."""
    total: dict[Place, int] = {}
    for one in counts:
        for place, count in one.items():
            total[place] = total.get(place, 0) + count
    return total


def percent(counts: dict[Place, int], kind: str | None = None) -> tuple[int, int]:
    """Points that ran and all points, of ``kind`` or of both."""
    values = [count for place, count in counts.items() if kind in (None, place.kind)]
    return sum(count > 0 for count in values), len(values)


def describe(place: Place, verilog: list[str], definitions: dict[str, str]) -> str:
    """What did not run, in a line that does not depend on numbering: module, signal, condition.

    ``verilog``: lines of the design; ``definitions``: of temporaries, from ``temporaries``.
    """
    text = verilog[place.line - 1].strip()
    signal = ""
    for line in verilog[place.line - 1:place.line + 2]:
        found = _TARGET.match(line.removeprefix("  assign "))
        if found:
            signal = _plain(definitions.get(f"next {found[1].strip()}", found[1]))
            break
    text = _TEMPORARY.sub(lambda name: "(" + definitions.get(name[0], name[0]) + ")", text)
    text = re.sub(r"\s+", " ", text.removeprefix("assign ").removesuffix("begin").strip())
    if len(text) > _WIDEST:
        text = text[:_WIDEST] + " ..."
    return f"{place.module}: {signal}: {place.arm} of {text}"


def _plain(name: str) -> str:
    return name.strip().removeprefix("\\")


def temporaries(verilog: list[str]) -> dict[str, dict[str, str]]:
    """Definitions of the writer's unnamed wires, by module and name; as ``next _N`` the register
    that takes what wire ``_N`` holds."""
    found: dict[str, dict[str, str]] = {}
    module = ""
    for line in verilog:
        if line.startswith("module "):
            module = line.split("(")[0].removeprefix("module ").strip()
        definition = _ASSIGN.match(line)
        if definition:
            found.setdefault(module, {})[definition[1]] = definition[2]
        register = _REGISTER.match(line)
        if register:
            found.setdefault(module, {})[f"next {register[2]}"] = register[1]
    return found



def missing(counts: dict[Place, int], verilog: str) -> list[str]:
    """A line for each point that never ran, as ``describe``."""
    lines = verilog.splitlines()
    definitions = temporaries(lines)
    return [describe(place, lines, definitions.get(place.module, {}))
            for place in sorted(counts) if not counts[place]]
