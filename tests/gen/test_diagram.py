"""The drawing shows the design: every unit, every wide flow, nothing that is not there."""

import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

import gen.diagram
from gen.connections import connections
from gen.diagram import ARROWS, PLACES, draw, verify
from hdl.spec.config import AcceleratorConfig
from hdl.top import Accelerator

CONFIG = AcceleratorConfig("posit8")
TRAIN = data.StructLayout({"data": 32, "last": 1})


@pytest.fixture(scope="module")
def design():
    return connections(Accelerator(CONFIG))


class Part(wiring.Component):
    """A unit that adds one."""

    def __init__(self):
        super().__init__({"i": In(stream.Signature(TRAIN)), "o": Out(stream.Signature(TRAIN)),
                          "select": In(1), "flag": Out(1), "narrow": Out(8), "wide": In(16)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.payload.data.eq(self.i.payload.data + 1)
        m.d.comb += [self.i.ready.eq(1), self.flag.eq(self.i.valid), self.narrow.eq(1)]
        return m


class Whole(wiring.Component):
    """Three units: a to b through a register, b to c by a choice that c's flag makes."""

    def __init__(self):
        super().__init__({"start": In(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.a, m.submodules.b, m.submodules.c0 = a, b, c = Part(), Part(), Part()
        held = Signal(TRAIN)
        m.d.sync += held.eq(a.o.payload)
        m.d.comb += [b.i.payload.eq(held), a.i.payload.data.eq(self.start),
                     c.wide.eq(Mux(c.flag, b.narrow, self.start))]
        with m.If(a.flag):
            m.d.comb += c.select.eq(b.flag)
        return m


def test_connections_follow_bits_through_registers_and_choices():
    found = connections(Whole(), ())
    assert {name: len(unit.components) for name, unit in found.units.items()} == {
        "a": 1, "b": 1, "c": 1}
    assert found.bits == {("a", "b"): 32, ("b", "c"): 8}


def test_the_widths_are_those_of_the_build(design):
    narrow = connections(Accelerator(replace(CONFIG, dim=8, lanes=4, bus_bytes=8)))
    for pair, wide, small in ((("array", "accumulation"), 256, 128), (("unit", "store"), 256, 64),
                              (("resizer_c", "writer"), 128, 64), (("inputs", "array"), 128, 64)):
        assert (design.bits[pair], narrow.bits[pair]) == (wide, small)


def test_a_unit_without_a_place_is_refused(design, monkeypatch):
    rest = {name: place for name, place in PLACES.items() if name != "transposer"}
    monkeypatch.setattr(gen.diagram, "PLACES", rest)
    with pytest.raises(ValueError, match="unit transposer must be in the design and have a place"):
        verify(design, CONFIG)


def test_a_place_without_a_unit_is_refused(design, monkeypatch):
    monkeypatch.setattr(gen.diagram, "PLACES", PLACES | {"engine": PLACES["transposer"]})
    with pytest.raises(ValueError, match="unit engine must be in the design"):
        verify(design, CONFIG)


def test_an_arrow_that_the_design_does_not_have_is_refused(design):
    false = replace(ARROWS[0], source="writer", target="array")
    with pytest.raises(ValueError, match="must be a flow of the design, not writer to array"):
        verify(design, CONFIG, [*ARROWS, false])


@pytest.mark.parametrize("left", [arrow for arrow in ARROWS if arrow.label],
                         ids=lambda arrow: f"{arrow.source}-{arrow.target}")
def test_wide_data_without_an_arrow_are_refused(design, left):
    rest = [arrow for arrow in ARROWS if arrow is not left]
    if left.source == "row_maximum":  # a number a row: narrow, drawn all the same
        verify(design, CONFIG, rest)
        return
    with pytest.raises(ValueError, match=r"^\d+ bits from \w+ to \w+ must be drawn") as refused:
        verify(design, CONFIG, rest)
    assert {left.source, left.target} & set(str(refused.value).split())


def boxes(svg):
    """Boxes of units, and of every text as wide as it can be in its font."""
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    units = [tuple(float(item.get(name)) for name in ("x", "y", "width", "height"))
             for item in root.iter(f"{space}rect") if item.get("class")]
    units = [(x, y, x + width, y + height) for x, y, width, height in units]
    texts = []
    for item in root.iter(f"{space}text"):
        size = {"name": 12.0, "bits": 11.0}.get(item.get("class"), 10.5)
        half = len(item.text) * size * (0.33 if item.get("class") == "name" else 0.295)
        x, y = float(item.get("x")), float(item.get("y"))
        start = "start" in item.get("style", "")
        texts.append((x if start else x - half, y - size * .75, x + half * (1 + start), y + 2,
                      item.text))
    return units, texts


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("config", [CONFIG, AcceleratorConfig("bf16"),
                                    AcceleratorConfig("posit8es2", dim=128, acc="exact")],
                         ids=lambda config: config.fmt)
def test_nothing_overlaps(config):
    units, texts = boxes(draw(config))
    stacked = [(place.x, place.y) for place in PLACES.values() if place.copies > 1]
    apart = [one for one in units if not any(
        one[0] - x in (0, 5) and y - one[1] in (0, 5) for x, y in stacked)]
    assert len(apart) >= len(PLACES) - len(stacked) and len(texts) > 60
    assert not [pair for pair in combinations(apart, 2) if overlap(*pair)]
    assert not [pair for pair in combinations(texts, 2) if overlap(*pair)]
    for text in texts:
        assert text[0] >= 0 and text[2] <= 960 and text[1] >= 0 and text[3] <= 560
        for unit in units:
            inside = unit[0] <= text[0] and text[2] <= unit[2]
            assert inside or not overlap(unit, text), text


def test_every_class_is_named(design):
    svg = draw(CONFIG)
    for name in PLACES:
        kind = type(design.units[name].component)
        assert kind.__name__ in svg or kind.__name__ in ("Sram1R1W", "BankedSram")
        assert "/".join(kind.__module__.split(".")[:-1]) in svg
    assert len(re.findall(r"\d b</text>", svg)) > 20
