"""Code coverage of generated Verilog: which lines and branches Verilator saw run.

Verilator counts every block of statements (``line``) and every side of every ``if``, ``case`` and
``?:`` (``branch``); a module's instances are counted together. Left out is what is no hardware:
the statements that wake a block of combinational logic.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gen.design import Design
from gen.verilog import WAKE_UP

__all__ = ["Place", "describe", "hardware", "merged", "missing", "percent", "read"]

_LINE = re.compile(r"C '(.*)' (\d+)$")
_UNNAMED = re.compile(r"\b_\d+\b")
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
    """``counts`` without the statements that wake a block."""
    lines = verilog.splitlines()
    return {place: count for place, count in counts.items()
            if WAKE_UP not in lines[place.line - 1]}


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


def describe(place: Place, verilog: list[str], definitions: Mapping[str, str]) -> str:
    """What did not run, in a line that does not depend on numbering: module, signal, condition.

    ``verilog``: lines of the design; ``definitions``: what drives the module's wires that have no
    name.
    """
    text = verilog[place.line - 1].strip().removeprefix("assign ")
    if text.endswith(" begin"):  # the signal is in the statement below
        text = f"{text.removesuffix(' begin')} {verilog[place.line].strip()}"
    text = _UNNAMED.sub(lambda name: f"({definitions.get(name[0], name[0])})", text)
    if len(text) > _WIDEST:
        text = text[:_WIDEST] + " ..."
    return f"{place.module}: {place.arm} of {text}"


def missing(counts: dict[Place, int], design: Design) -> list[str]:
    """A line for each point that never ran, as ``describe``."""
    lines = design.text.splitlines()
    return [describe(place, lines, design.modules[place.module].definitions)
            for place in sorted(counts) if not counts[place]]
