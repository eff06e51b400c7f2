"""``python -m synth.isomorphism OLD NEW``: whether two texts are one circuit under other names.

OLD and NEW are designs in Verilog (``.v``) or RTLIL (``.il``). Both are flattened and taken apart
(``synth.netlist``); a walk from the output ports, which must have the same names, then gives each
gate, register and memory bit of the one its counterpart in the other. The inputs of a cell are in
order, so that nothing is searched: the counterpart of what drives an input is what drives the
same input there. Every pair must agree in type, parameters, initial value and contents, and none
may have two counterparts. What passes behaves alike in every cycle, from the initial state on.

Says what was compared and exits with 0; with 1 where the two differ, naming the first place.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gen.cli import Parser, deliver
from synth.netlist import Netlist, Node, read_design
from synth.yosys import YosysError

__all__ = ["Difference", "compare", "main"]


@dataclass(frozen=True)
class Difference:
    """The first place at which two netlists differ; ``old`` and ``new`` say what is there."""

    place: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.place}: {self.old} in the old design, {self.new} in the new one"


def _describe(design: Netlist, value: tuple[int, int]) -> str:
    node = design.nodes[value[0]]
    return f"{node.kind[0]} {node.name}"


def _two_kinds(mine: Node, other: Node) -> tuple[str, str]:
    """Two nodes by their types and, where these are equal, by the parameters that differ."""
    if mine.kind[0] != other.kind[0]:
        return f"{mine.kind[0]} {mine.name}", f"{other.kind[0]} {other.name}"
    differ = [pair for pair in zip(mine.kind, other.kind, strict=False) if pair[0] != pair[1]]
    parts = differ[0] if differ else (mine.kind, other.kind)
    return (f"{mine.kind[0]} {mine.name} of {parts[0]}",
            f"{other.kind[0]} {other.name} of {parts[1]}")


def compare(old: Netlist, new: Netlist) -> Difference | None:
    """What differs first, ``None`` where each node of ``old`` has its counterpart in ``new``.

    ``ValueError`` where there is nothing to compare.
    """
    if not old.outputs or not old.cells:
        raise ValueError("a design must have an output port that depends on a cell")
    absent = sorted(set(old.ports) ^ set(new.ports))
    if absent:
        return Difference(absent[0], *("there" if absent[0] in design.ports else "absent"
                                       for design in (old, new)))
    # Both walks start at the same ports: the first difference shows in their order.
    reached: dict[int, str] = {}
    for (label, driver), (_, other_driver) in zip(old.outputs, new.outputs, strict=True):
        if driver != other_driver:
            return Difference(f"output {label}", _describe(old, driver),
                              _describe(new, other_driver))
        reached.setdefault(driver[0], f"what drives output {label}")
    for number, (mine, other) in enumerate(zip(old.nodes, new.nodes, strict=False)):
        if mine.kind != other.kind or len(mine.inputs) != len(other.inputs):
            return Difference(reached[number], *_two_kinds(mine, other))
        for index, (source, other_source) in enumerate(zip(mine.inputs, other.inputs, strict=True)):
            place = f"input {index} of {mine.name}, now {other.name}"
            if source != other_source:
                return Difference(place, _describe(old, source), _describe(new, other_source))
            reached.setdefault(source[0], place)
    assert len(old.nodes) == len(new.nodes), "walks that agree to the end are equally long"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="synth.isomorphism", description=__doc__.splitlines()[0])
    parser.add_argument("old", metavar="OLD", help="a design, .v or .il")
    parser.add_argument("new", metavar="NEW", help="another")
    parser.add_argument("--top", help="the module to compare; the one that no other instantiates")
    parser.add_argument("-o", "--output", help="where to write the result, not standard output")
    arguments = parser.parse_args(argv)
    designs = []
    for name in (arguments.old, arguments.new):
        try:
            designs.append(read_design([(Path(name).suffix, Path(name).read_text())],
                                       arguments.top))
        except (OSError, UnicodeDecodeError):
            parser.error(f"design must be a readable text, not {name!r}")
        except (ValueError, YosysError) as error:
            parser.error(f"{name}: {error}")
    try:
        difference = compare(*designs)
    except ValueError as error:
        parser.error(str(error))
    counts = ", ".join(f"{count:,} {kind}" for kind, count in designs[0].counts.items())
    text = f"differ at {difference}\n" if difference else (
        f"isomorphic: {counts}, {len(designs[0].outputs):,} output bits; "
        f"structure {designs[0].digest[:16]}\n")
    code = deliver(parser, arguments.output, lambda: text)
    return code or int(difference is not None)


if __name__ == "__main__":
    sys.exit(main())
