"""``python -m gen.diagram``: the accelerator's units and what flows between them, as SVG.

Units, their number, and the width of each arrow are read off an elaborated build
(``gen.connections``); only places are given here. A unit without a place, a place without a unit,
an arrow that the design does not have and wide data without an arrow are errors.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from gen.cli import Parser, add_config_flags, config_from, deliver
from gen.connections import Connections, Unit, connections
from hdl.spec.config import AcceleratorConfig

__all__ = ["ARROWS", "PLACES", "Arrow", "Place", "draw", "main", "verify"]

WIDTH, HEIGHT = 960, 560
Point = tuple[float, float]


@dataclass(frozen=True)
class Place:
    """Where a unit's box lies, in units of the drawing; ``fact``: its second line."""

    x: int
    y: int
    width: int
    height: int
    fact: Callable[[AcceleratorConfig], str] | None = None
    copies: int = 1

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True)
class Arrow:
    """A flow along ``points``, labelled with its bits next to point ``label``; ``through`` names
    small units that it passes. ``control``: no data, drawn dashed and without width."""

    source: str
    target: str
    points: tuple[Point, ...]
    label: Point | None = None
    through: tuple[str, ...] = ()
    control: bool = False


def _array(config: AcceleratorConfig) -> str:
    return f"{config.dim} × {config.dim}, {config.acc} sums"


PLACES: dict[str, Place] = {
    "csr": Place(480, 24, 150, 50),
    "sequencer": Place(250, 24, 150, 50),
    "reader": Place(70, 130, 110, 256, lambda config: "4 clients"),
    "writer": Place(70, 424, 110, 64),
    "weights": Place(250, 130, 130, 50),
    "weight_buffer": Place(440, 130, 130, 50, lambda config: _words(config, "weight_depth")),
    "shifter": Place(790, 130, 140, 50),
    "operands": Place(250, 222, 130, 50),
    "inputs": Place(440, 222, 130, 50, lambda config: f"2 × {_words(config, 'input_depth')}", 2),
    "array": Place(630, 210, 150, 78, _array),
    "feeder": Place(440, 306, 130, 44),
    "fetch_y": Place(250, 326, 130, 50, lambda config: "operand Y"),
    "accumulation": Place(630, 410, 150, 64, lambda config: f"2 × {_words(config, 'acc_depth')}"),
    "row_maximum": Place(830, 410, 110, 50),
    "banks": Place(796, 330, 144, 50),
    "unit": Place(430, 410, 150, 64, lambda config: f"{config.lanes} lanes, {config.softmax}"),
    "store": Place(250, 420, 130, 50, lambda config: f"{config.lanes} encoders"),
    "transposer": Place(250, 498, 130, 50, lambda config: "transposed C"),
    "drain": Place(630, 504, 150, 44),
}
# Small units that an arrow passes without a box of their own.
PASSED = ("resizer_operands", "resizer_weights", "resizer_y", "resizer_c", "round")
# Units that take plans from the sequencer, and those that ask an engine for transfers: a mark at
# their boxes stands for the arrow.
PLANNED = ("operands", "weights", "feeder", "drain")
ASKING = {"reader": ("sequencer", "operands", "weights", "drain"), "writer": ("drain",)}

ARROWS: tuple[Arrow, ...] = (
    Arrow("reader", "sequencer", ((125, 130), (125, 49), (250, 49)), (190, 42)),
    Arrow("reader", "weights", ((180, 155), (250, 155)), (215, 148), ("resizer_weights",)),
    Arrow("reader", "operands", ((180, 247), (250, 247)), (215, 240), ("resizer_operands",)),
    Arrow("reader", "fetch_y", ((180, 351), (250, 351)), (215, 344), ("resizer_y",)),
    Arrow("weights", "weight_buffer", ((380, 155), (440, 155)), (410, 148)),
    Arrow("weight_buffer", "array", ((570, 155), (705, 155), (705, 210)), (637, 148)),
    Arrow("operands", "inputs", ((380, 247), (440, 247)), (410, 240)),
    Arrow("inputs", "array", ((570, 247), (630, 247)), (602, 240)),
    Arrow("array", "accumulation", ((720, 288), (720, 410)), (744, 352)),
    Arrow("operands", "accumulation", ((315, 272), (315, 290), (405, 290), (405, 378), (670, 378),
                                       (670, 410)), (605, 371)),
    Arrow("accumulation", "row_maximum", ((780, 435), (830, 435)), (805, 428)),
    Arrow("accumulation", "unit", ((630, 435), (580, 435)), (605, 428), ("round",)),
    Arrow("row_maximum", "unit", ((885, 460), (885, 490), (560, 490), (560, 474)), (800, 484)),
    Arrow("fetch_y", "unit", ((315, 376), (315, 394), (470, 394), (470, 410)), (372, 407)),
    Arrow("unit", "accumulation", ((580, 460), (630, 460)), (605, 474)),
    Arrow("unit", "store", ((430, 446), (380, 446)), (405, 439)),
    Arrow("unit", "transposer", ((470, 474), (470, 523), (380, 523)), (425, 516)),
    Arrow("transposer", "store", ((315, 498), (315, 470)), (340, 488)),
    Arrow("store", "writer", ((250, 446), (180, 446)), (215, 439), ("resizer_c",)),
    Arrow("csr", "sequencer", ((480, 42), (400, 42)), control=True),
    Arrow("sequencer", "csr", ((400, 58), (480, 58)), control=True),
    Arrow("feeder", "inputs", ((505, 306), (505, 272)), control=True),
    Arrow("feeder", "array", ((570, 328), (660, 328), (660, 288)), control=True),
    Arrow("shifter", "array", ((790, 165), (740, 165), (740, 210)), control=True),
    Arrow("banks", "drain", ((940, 355), (952, 355), (952, 526), (780, 526)), control=True),
    Arrow("drain", "accumulation", ((740, 504), (740, 474)), control=True),
)
_STYLE = """
text { font: 11px 'DejaVu Sans', Verdana, sans-serif; fill: #1b2733; text-anchor: middle; }
text.name { font-weight: bold; font-size: 12px; }
text.fact, text.note { fill: #46566a; font-size: 10.5px; }
text.bits { fill: #0b4f8a; }
rect.unit { fill: #eef4fb; stroke: #35506e; stroke-width: 1.2; }
rect.memory { fill: #fdf3dc; stroke: #8a6a1c; stroke-width: 1.2; }
rect.control { fill: #f1f1f4; stroke: #6b7280; stroke-width: 1.2; }
polyline { fill: none; stroke: #0b4f8a; stroke-width: 1.6; marker-end: url(#data); }
polyline.control { stroke: #8a8f98; stroke-width: 1.2; stroke-dasharray: 4 3;
  marker-end: url(#control); }
circle.plan { fill: #b3402a; } path.ask { fill: #2f7d4f; }
"""
_CONTROL = ("csr", "sequencer", "feeder", "shifter", "banks", "drain")
_MEMORY = ("weight_buffer", "inputs", "accumulation")


def _words(config: AcceleratorConfig, depth: str) -> str:
    bits = config.dim * config.acc_bits if depth == "acc_depth" else 8 * config.word_bytes
    return f"{getattr(config, depth):,} × {bits} b"


def carried(design: Connections, arrow: Arrow) -> int:
    """Bits that the design moves along ``arrow``; ``ValueError`` where it has no such flow."""
    for pair in ((arrow.source, arrow.target), *(
            pair for unit in arrow.through
            for pair in ((arrow.source, unit), (unit, arrow.target)))):
        if pair not in design.bits and not (arrow.through and pair == (arrow.source,
                                                                       arrow.target)):
            raise ValueError(f"arrow must be a flow of the design, not {pair[0]} to {pair[1]}")
    if arrow.through:
        return design.bits[arrow.through[-1], arrow.target]
    return design.bits[arrow.source, arrow.target]


def _drawn(arrows: Sequence[Arrow]) -> Iterator[tuple[str, str]]:
    """Pairs of units whose flow the drawing shows, by an arrow or a mark."""
    for arrow in arrows:
        chain = (arrow.source, *arrow.through, arrow.target)
        yield from pairwise(chain)
    yield from (("sequencer", unit) for unit in PLANNED)
    yield from ((unit, engine) for engine, units in ASKING.items() for unit in units)


def verify(design: Connections, config: AcceleratorConfig, arrows: Sequence[Arrow] = ARROWS
           ) -> None:
    """``ValueError`` unless all units have places and all wide flows are drawn."""
    placed = {*PLACES, *PASSED}
    for name in sorted(set(design.units) ^ placed):
        raise ValueError(f"unit {name} must be in the design and have a place")
    shown = set(_drawn(arrows))
    for pair in sorted(shown - set(design.bits)):
        raise ValueError(f"arrow must be a flow of the design, not {pair[0]} to {pair[1]}")
    wide = min(8 * config.word_bytes, 8 * config.bus_bytes)
    for pair, bits in design.bits.items():
        if bits >= wide and pair not in shown:
            raise ValueError(f"{bits} bits from {pair[0]} to {pair[1]} must be drawn")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _box(name: str, place: Place, title: str, folder: str, config: AcceleratorConfig
         ) -> Iterator[str]:
    kind = "memory" if name in _MEMORY else "control" if name in _CONTROL else "unit"
    for copy in reversed(range(place.copies)):
        yield (f'<rect class="{kind}" x="{place.x + 5 * copy}" y="{place.y - 5 * copy}" '
               f'width="{place.width}" height="{place.height}" rx="4"/>')
    middle, centre = place.x + place.width / 2, place.y + place.height / 2
    lines = [(title, "name"), *([(place.fact(config), "fact")] if place.fact else []),
             (folder, "note")]
    top = centre - 6.5 * (len(lines) - 1) + 4
    for index, (text, style) in enumerate(lines):
        yield _text(middle, top + 13.5 * index, text, style)
    if name in PLANNED:
        yield f'<circle class="plan" cx="{place.x + 8}" cy="{place.y + 8}" r="4"/>'
    if any(name in units for units in ASKING.values()):
        yield (f'<path class="ask" d="M{place.x + place.width - 12} {place.y + 4}h8l-4 8z"/>')


def _title(unit: Unit) -> tuple[str, str]:
    """What a box is called, and the folder of its class: a memory by what it holds."""
    kind = type(unit.component)
    names = {"inputs": "Input banks", "weight_buffer": "Weight buffer"}
    return names.get(unit.name, kind.__name__), "/".join(kind.__module__.split(".")[:-1])


def _frame(config: AcceleratorConfig) -> Iterator[str]:
    """Ports of the design and the legend."""
    bus = 8 * config.bus_bytes
    yield '<polyline points="8,258 70,258"/>'
    yield '<polyline points="70,456 8,456"/>'
    yield _text(38, 251, f"{bus} b", "bits")
    yield _text(38, 449, f"{bus} b", "bits")
    yield _text(38, 276, "AXI4 R", "note")
    yield _text(38, 474, "AXI4 W", "note")
    yield '<polyline class="control" points="790,49 630,49"/>'
    yield _text(716, 42, "AXI4-Lite 32 b, interrupt", "note")
    yield '<circle class="plan" cx="26" cy="514" r="4"/>'
    yield '<path class="ask" d="M22 530h8l-4 8z"/>'
    for y, text in ((518, "takes plans"), (538, "asks for transfers")):
        yield f'<text class="note" x="36" y="{y}" style="text-anchor:start">{text}</text>'


def draw(config: AcceleratorConfig) -> str:
    """The drawing of the build ``config``; ``ValueError`` where places and design disagree."""
    from hdl.top import Accelerator

    design = connections(Accelerator(config))
    verify(design, config)
    parts = []
    for arrow in ARROWS:
        points = " ".join(f"{x:g},{y:g}" for x, y in arrow.points)
        kind = ' class="control"' if arrow.control else ""
        parts.append(f'<polyline{kind} points="{points}"/>')
        bits = carried(design, arrow)
        if arrow.label:
            parts.append(_text(*arrow.label, f"{bits} b", "bits"))
    for name, place in PLACES.items():
        parts += _box(name, place, *_title(design.units[name]), config)
    marks = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="6" '
        f'markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        for name, colour in (("data", "#0b4f8a"), ("control", "#8a8f98")))
    title = (f"Units of the accelerator {config.fmt}, D = {config.dim}, L = {config.lanes}, "
             "and the bits that flow between them")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", f"<defs>{marks}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *parts,
        *_frame(config), "</svg>"]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="gen.diagram", description="Draw the accelerator from its design, as SVG.")
    add_config_flags(parser)
    arguments = parser.parse_args(argv)
    try:
        config = config_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    return deliver(parser, arguments.output, lambda: draw(config))


if __name__ == "__main__":
    sys.exit(main())
