"""Quick netlists are Amaranth's own, and a combinational cycle is found in them all the same."""

from contextlib import nullcontext

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen import amaranth_private
from gen.amaranth_private import are_quick, quick_netlists
from gen.block import component_of
from gen.top import build
from gen.verilog.rtlil import parse
from hdl.spec.config import AcceleratorConfig


class Wired(wiring.Component):
    """``connect`` adds statements that drive ``x``, a signal of eight bits."""

    def __init__(self, connect):
        self._connect = connect
        super().__init__({"a": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        x = Signal(8)
        self._connect(m, x, self.a)
        m.d.comb += self.o.eq(x)
        return m


def between_bits(m, x, a):
    with m.If(a[0]):
        m.d.comb += [x[0].eq(x[1]), x[1].eq(x[0])]


def through_an_adder(m, x, a):
    m.d.comb += x.eq((x[:4] ^ a) + 1)


def to_itself(m, x, a):
    m.d.comb += x.eq(x)


def between_two(m, x, a):
    y = Signal(8)
    m.d.comb += [x.eq(y), y.eq(x)]


def up_its_own_bits(m, x, a):
    with m.If(a[7]):
        m.d.comb += [x[bit + 1].eq(x[bit] ^ a[bit]) for bit in range(7)]


def through_a_register(m, x, a):
    m.d.sync += x.eq(x + a)


@pytest.mark.parametrize("connect", [between_bits, through_an_adder, to_itself, between_two])
def test_cycles_are_found(connect):
    for around in (nullcontext, quick_netlists):
        component = Wired(connect)
        with around(), pytest.raises(Exception, match="^Combinational cycle detected") as found:
            rtlil.convert(component)
        assert type(found.value).__name__ == "CombinationalCycle"


def circuit(rtlil_text):
    """All of its modules but the names of fields, which quick netlists have no wires for."""
    return [(module.name, module.wires, module.memories, module.items, module.connections)
            for module in parse(rtlil_text)]


@pytest.mark.parametrize("make", [
    lambda: Wired(up_its_own_bits), lambda: Wired(through_a_register),
    lambda: component_of("mac", AcceleratorConfig("posit8")),
    lambda: component_of("lane", AcceleratorConfig("fp8", lane_latency=2))])
def test_netlists_are_the_same(make):
    plain = rtlil.convert(make(), emit_src=False)
    with quick_netlists():
        quick = rtlil.convert(make(), emit_src=False)
    assert circuit(quick) == circuit(plain) and len(plain) > 500


def test_an_accelerator_is_the_same(monkeypatch):
    config = AcceleratorConfig("e4m3", dim=4, acc="exact")
    quick = build(config)
    monkeypatch.setattr(amaranth_private, "_KNOWN", False)
    plain = build(config)
    assert circuit(plain.rtlil) == circuit(quick.rtlil) and len(quick.rtlil) > 1_000_000
    # Fields have the same names, wherever these come from.
    assert plain.verilog() == quick.verilog()


def test_another_release_is_left_alone(monkeypatch):
    monkeypatch.setattr(amaranth_private, "_KNOWN", False)
    with quick_netlists():
        assert not are_quick()


def test_all_is_put_back_after_an_error():
    seen = []
    component = Wired(lambda m, x, a: seen.append(are_quick()) or between_bits(m, x, a))
    with pytest.raises(Exception, match="Combinational cycle"), quick_netlists():
        rtlil.convert(component)
    assert seen == [True] and not are_quick()
