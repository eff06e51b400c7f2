"""Sums gate by gate and as carry chains: every operand, on the text for gates and for an FPGA."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.leaves import Library
from gen.recorder import record
from hdl.arith.float_multiplier import FloatMultiplier
from hdl.arith.multiplier import Multiplier
from hdl.lib import ripple
from hdl.lib.leaf import shared
from hdl.spec.formats import BFLOAT16, FORMATS
from hdl.spec.surroundings import TARGETS, Surroundings
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches

WIDTHS = (4, 6)  # below a chain's least, and above


class Sums(wiring.Component):
    """All of ``ripple`` on operands of ``bits``."""

    def __init__(self, bits):
        self.bits = bits
        more = bits + 1
        super().__init__({"a": In(bits), "b": In(bits), "carry": In(1), "plain": Out(more),
                          "carried": Out(more), "one_more": Out(more)})

    leaf_name = "sums"

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.plain.eq(ripple.add(m, "plain", self.a, self.b)),
                     self.carried.eq(ripple.add(m, "carried", self.a, self.b, self.carry)),
                     self.one_more.eq(ripple.increment(m, "one_more", self.a, self.carry))]
        return m


def text_of(component, target):
    library = Library(surroundings=Surroundings(target=target))
    library.add(component, "top")
    return record(library, "top").text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_sum(bits, target):
    text = text_of(Sums(bits), target)
    assert (" + " in text) == (target == "fpga" and bits > 4)
    a, b, carry = (values.ravel() for values in np.meshgrid(
        *(np.arange(1 << width) for width in (bits, bits, 1)), indexing="ij"))
    got = Batch(text, "top", optimise="-O0").run({"a": a, "b": b, "carry": carry})
    for name, sums in (("plain", a + b), ("carried", a + b + carry), ("one_more", a + carry)):
        assert check(f"{name} {bits} {target}", got[name], sums) == a.size
        assert count_mismatches(got[name], sums ^ (sums == 3)) > 0


class Parent(wiring.Component):
    """A shared leaf inside."""

    def __init__(self, leaf):
        self.leaf = leaf
        super().__init__({name: member for name, member in leaf.signature.members.items()})

    leaf_name = "parent"

    def elaborate(self, platform):
        m = Module()
        m.submodules.leaf = shared(self.leaf)
        for name, member in self.signature.members.items():
            inside, outside = getattr(self.leaf, name), getattr(self, name)
            m.d.comb += outside.eq(inside) if member.flow is Out else inside.eq(outside)
        return m


def test_leaves_of_a_target_have_names_of_their_own():
    texts = {target: text_of(Parent(FloatMultiplier(BFLOAT16)), target) for target in TARGETS}
    assert "module float_multiply_bf16(" in texts["asic"]
    assert "module float_multiply_bf16_fpga(" in texts["fpga"]
    assert " * " in texts["fpga"] and " * " not in texts["asic"]


@pytest.mark.parametrize("fmt", ["posit8", "int8"])
def test_every_product_of_digits(fmt):
    kind = FORMATS[fmt]
    found = {target: Batch(text_of(Multiplier(kind), target), "top", optimise="-O0")
             for target in TARGETS}
    bits = sum(width for name, width in found["asic"].inputs.items() if name == "a")
    rng = np.random.default_rng(5)
    given = {name: rng.integers(0, 1 << bits, 200_000) for name in "ab"}
    one, other = (batch.run(given)["o"] for batch in found.values())
    assert check(f"multiplier {fmt}", one, other) == 200_000
    assert len(np.unique(one)) > 100
