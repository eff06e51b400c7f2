"""Between two clocks nothing passes but levels and words, those that the constraints name."""

import re

import pytest

from gen.cached import generated
from gen.sdc import constraints
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings
from synth.crossings import LEVEL, WORD, crossings

CONFIG = AcceleratorConfig("posit8", dim=4)
AROUND = Surroundings(control_clock=True)


@pytest.fixture(scope="module")
def text():
    return generated(CONFIG, surroundings=AROUND).text


def test_only_what_the_constraints_name(text):
    found = crossings(text, "ottava")
    print(f"{len(found)} crossings, {sum(one.bits for one in found)} bits")
    assert {one.kind for one in found} == {LEVEL, WORD}
    levels = {one.giver.replace(".", "/") for one in found if one.kind == LEVEL}
    named = re.search(r"from (csr/lite/[\w ,/]+ and interrupt_pending) into",
                      constraints(CONFIG, surroundings=AROUND).replace("\n# ", " "))[1]
    first, *rest = re.findall(r"[\w/]+", named.replace(" and ", " "))
    inside = {f"csr/lite/{name}" for name in rest if name != "interrupt_pending"}
    assert levels == {first, *inside, "interrupt_pending"}
    words = [one for one in found if one.kind == WORD]
    assert {one.giver.rpartition(".")[0] for one in words} == {"csr.lite"}
    assert sum(one.bits for one in words) == 32 + 32 + 4 + 10 + 10


def test_what_else_would_pass_is_found(text):
    for find, put in ((r"(stages <= \{stages\[0\], )d\}", r"\1~d}"),
                      (r"(if \(\w+\) here <= )word;", r"\1word + 1'h1;"),
                      (r"if \(\w+\) under <= strobe;", "under <= strobe;"),
                      (r"\.q\(interrupt\)", ".q()"),
                      (r"(  always @\(posedge clk\) begin\n    greeted <= greeting_in_sync);",
                       r"  reg kept [0:3];\n"
                       r"  always @(posedge clk) kept[place[1:0]] <= address[9];\n"
                       r"\1 & kept[place[3:2]];"),
                      (r"(\n  ottava_synchroniser to_interrupt)",
                       r"\n  assign interrupt = interrupt_pending;\1")):
        text, times = re.subn(find, put, text)
        assert times == 1, find
    faults = {(one.kind, one.giver) for one in crossings(text, "ottava")
              if one.kind not in (LEVEL, WORD)}
    assert {("logic between", "csr.lite.greeting"), ("logic between", "csr.lite.word"),
            ("to a register that takes it at every edge", "csr.lite.strobe"),
            ("to DATA of a register or memory", "csr.lite.address"),
            ("a port of the other clock", "interrupt")} <= faults
