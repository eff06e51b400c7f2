"""The text that is written is the RTLIL that it was made of, and a change of it is found."""

from dataclasses import replace

import pytest
from amaranth.hdl import Array, Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.block import build_block
from gen.leaves import Library
from gen.top import build
from hdl.spec.config import AcceleratorConfig
from synth.writing import Refuted, claims, prove
from tools.golden import builds


class Awkward(wiring.Component):
    """What is easily written wrong: widths that surroundings change, signs, priorities, parts."""

    def __init__(self):
        super().__init__({
            "a": In(8), "b": In(8), "s": In(signed(5)), "t": In(signed(9)), "n": In(3), "c": In(4),
            "carry": Out(1), "middle": Out(8), "shifted": Out(8), "compared": Out(4),
            "signs": Out(signed(12)), "picked": Out(8), "chain": Out(8), "table": Out(6),
            "negated": Out(10), "extended": Out(16), "parts": Out(data.StructLayout(
                {"low": 3, "one": 1, "high": 4})), "held": Out(8, init=0x5A)})

    def elaborate(self, platform):
        m = Module()
        a, b, s, t = self.a, self.b, self.s, self.t
        m.d.comb += [
            self.carry.eq((a + b)[8]), self.middle.eq(((a + b) >> 1) + (~a & b)),
            self.shifted.eq((a + b) >> self.n),
            self.compared.eq(Cat((a + b) < (b << 1), s < t, (s + t) == -3, ~a == b)),
            self.signs.eq((s * t) - (t >> self.n)), self.negated.eq(-(a ^ b)),
            self.extended.eq(Cat(s, s[4], a.any(), b.all(), a.xor()) + (t << 2)),
            self.picked.eq(Array([a, b, a + b, ~a])[self.n]),
            self.parts.low.eq(a[2:]), self.parts.high.eq(b.word_select(self.n[0], 4))]
        with m.If(self.c[0]):
            m.d.comb += self.chain.eq(a)
        with m.Elif(self.c[1]):
            pass
        with m.Elif(self.c[2] | (a == b)):
            m.d.comb += self.chain[:4].eq(b)
        with m.Else():
            m.d.comb += self.chain.eq(a - b)
        with m.Switch(a):
            for value in range(0, 40, 3):
                with m.Case(value, value + 1):
                    m.d.comb += self.table.eq(value ^ 21)
            with m.Case("1-0-----", "0101----"):
                m.d.comb += self.table.eq(b)
            with m.Case("11------"):
                pass
            with m.Default():
                m.d.comb += self.table.eq(63)
        with m.If(~self.c[3]):
            with m.Switch(self.n):
                with m.Case(1):
                    m.d.sync += self.held.eq(self.held + a)
                with m.Case(2, 5):
                    m.d.sync += [self.held.eq(b), self.held[7].eq(self.c[0])]
                with m.Default():
                    with m.If(a > b):
                        m.d.sync += self.held.eq(0)
        return m


class Words(wiring.Component):
    """A memory with an initial value, two enables, a transparent port and one without a clock."""

    def __init__(self):
        super().__init__({"at": In(3), "to": In(3), "d": In(8), "w": In(2), "r": In(1),
                          "o": Out(8), "p": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = Memory(shape=8, depth=8, init=[3, 1, 4, 1, 5])
        write = words.write_port(granularity=4)
        read, now = words.read_port(transparent_for=(write,)), words.read_port(domain="comb")
        m.d.comb += [write.addr.eq(self.to), write.data.eq(self.d), write.en.eq(self.w),
                     read.addr.eq(self.at), read.en.eq(self.r), self.o.eq(read.data),
                     now.addr.eq(self.at), self.p.eq(now.data)]
        return m


class Inner(wiring.Component):
    def __init__(self):
        super().__init__({"a": In(8), "o": Out(8), "p": Out(1)})

    def elaborate(self, platform):
        m = Module()
        held = Signal(8)
        m.d.sync += held.eq(self.a)
        m.d.comb += [self.o.eq(held ^ 1), self.p.eq(held.all())]
        return m


class Holder(wiring.Component):
    def __init__(self):
        super().__init__({"a": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = Inner()
        m.d.comb += [inner.a.eq(self.a + inner.p), self.o.eq(inner.o)]
        return m


def claimed(component):
    library = Library()
    library.add(component(), "top")
    return claims(library, "top")


@pytest.mark.parametrize("component, least", [(Awkward, 100), (Words, 16), (Holder, 16)])
def test_what_is_easily_written_wrong(component, least):
    proved = prove(claimed(component))
    print(f"{component.__name__}: {proved}")
    assert proved["top"] >= least


@pytest.mark.parametrize("find, put", [
    ("~a & b", "~a | b"), ("8'h5a", "8'h5b"), ("held[7] <= c[0]", "held[6] <= c[0]"),
    ("6'h3f", "6'h3e"), ("$signed(s)", "s"), ("input [4:0] s", "input [5:0] s")])
def test_one_change_of_the_text_is_found(find, put):
    claim, = claimed(Awkward)
    assert find in claim.verilog
    with pytest.raises(Refuted, match="^top: "):
        prove([replace(claim, verilog=claim.verilog.replace(find, put))])


def test_a_wrong_wire_of_an_instance_is_found():
    holder = next(claim for claim in claimed(Holder) if claim.name == "top")
    assert ".o(o)" in holder.verilog
    with pytest.raises(Refuted, match="^top: "):
        prove([replace(holder, verilog=holder.verilog.replace(".a(", ".a(~"))])


def test_modules_of_an_accelerator():
    every = claims(build(AcceleratorConfig(dim=4)), "ottava")
    proved = prove(every[::6])
    print(f"{len(proved)} of {len(every)} modules, {sum(proved.values())} bits proved")
    assert len(proved) > 15 and min(proved.values()) > 0


@pytest.mark.parametrize("block", ["multiplier", "mac"])
def test_blocks(block):
    assert sum(prove(claims(build_block(block, AcceleratorConfig("fp8")), block)).values()) > 10


@pytest.mark.slow
def test_every_module_of_every_build():
    """Of those whose digests are kept; a module that several of them hold is proved once."""
    known, modules, bits = set(), 0, 0
    for one in builds():
        found = claims(build(one.config), "ottava")
        modules += len(found)
        proved = prove([claim for claim in found if claim.key not in known])
        known |= {claim.key for claim in found}
        bits += sum(proved.values())
    print(f"{len(builds())} builds, {modules} modules, {len(known)} distinct, {bits} bits proved")
    assert bits > 900_000 and len(known) > 1_500
