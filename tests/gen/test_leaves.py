import re

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from gen.amaranth_private import mark_used
from gen.leaves import Library
from gen.recorder import record
from hdl.lib.leaf import shared
from sim.harness.batch import Batch


class Increment(wiring.Component):
    leaf_name = "increment"

    def __init__(self, step=1):
        self.step = step
        super().__init__({"a": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.a + self.step)
        return m


class Multiply(wiring.Component):
    """A clocked leaf with a leaf, a private submodule and an unused port."""

    leaf_name = "multiply"

    def __init__(self):
        super().__init__({"a": In(8), "b": In(signed(8)), "unused": In(3), "o": Out(16),
                          "s": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform):
        m = Module()
        leaf = Increment()
        m.submodules.first = shared(leaf)
        m.submodules.private = private = Increment(5)
        product = Signal(16, reset_less=True)
        m.d.sync += [product.eq(leaf.o * self.b), self.o.eq(product)]
        m.d.comb += [leaf.a.eq(self.a), private.a.eq(self.a), self.s.payload.eq(private.o)]
        return m


class Parent(wiring.Component):
    def __init__(self, count=3):
        self.count = count
        super().__init__({"a": In(8), "o": Out(16), "p": Out(8)})

    def elaborate(self, platform):
        m = Module()
        value = self.a
        for index in range(self.count):
            leaf = Multiply()
            m.submodules[f"leaf{index}"] = shared(leaf)
            m.d.comb += [leaf.a.eq(value), leaf.b.eq(3)]
            value = leaf.o[:8]
        m.d.comb += [self.o.eq(leaf.o), self.p.eq(leaf.s.payload)]
        return m


def test_each_leaf_is_emitted_once():
    library = Library("x_")
    library.add(Parent(), "parent")
    design = record(library, "parent")
    names = re.findall(r"^module (\S+?)\(", design.text, re.M)
    assert sorted(names) == ["parent", "x_increment", "x_multiply", "x_multiply__private"]
    assert design.counts == {
        "parent": 1, "x_multiply": 3, "x_increment": 3, "x_multiply__private": 3}
    assert design.counts_under("x_multiply")["x_increment"] == 1


def test_text_is_the_same_every_time_and_names_no_path():
    texts = []
    for _ in range(2):
        library = Library()
        library.add(Parent(), "parent")
        texts.append(library.verilog())
    assert texts[0] == texts[1]
    assert ".py" not in texts[0] and "/home" not in texts[0] and "src" not in texts[0]


def test_unused_ports_survive_and_constants_are_no_ports():
    library = Library()
    library.add(Parent(), "parent")
    assert {"unused", "s__payload", "s__valid", "clk", "rst"} <= library.modules["multiply"].ports
    assert "s__ready" not in library.modules["multiply"].ports
    assert library.modules["increment"].ports == {"a", "o"}


def test_shared_leaves_behave_as_real_submodules():
    from amaranth.back import verilog

    component = Parent()
    flat = Batch(verilog.convert(component, name="parent", emit_src=False,
                                 strip_internal_attrs=True), "parent")
    library = Library()
    library.add(Parent(), "parent")
    leaves = Batch(library.verilog(), "parent")
    stimuli = {"a": np.random.default_rng(1).integers(0, 256, 20_000)}
    one, two = flat.run(stimuli), leaves.run(stimuli)
    assert one["o"].any() and one["p"].any()
    assert (one["o"] == two["o"]).all() and (one["p"] == two["p"]).all()
    assert len(np.unique(one["o"])) > 100


def test_text_grows_linearly():
    sizes = []
    for count in (8, 16, 32):
        library = Library()
        library.add(Parent(count), "parent")
        sizes.append(len(library.verilog()))
    assert sizes[2] - sizes[1] < 2.2 * (sizes[1] - sizes[0])


def test_equal_names_with_other_ports_are_refused():
    class Other(Increment):
        def __init__(self):
            wiring.Component.__init__(self, {"a": In(9), "o": Out(9)})
            self.step = 1

    library = Library()
    library.reference(Increment())
    with pytest.raises(ValueError, match="leaf 'increment' names two components"):
        library.reference(other := Other())
    mark_used(other)


def test_colliding_and_illegal_names_are_refused():
    library = Library()
    library.reference(Increment())
    with pytest.raises(ValueError, match="two modules are called 'increment'"):
        library.add(Increment(), "increment")
    with pytest.raises(ValueError, match="legal Verilog identifier, not 'a b'"):
        library.add(other := Increment(), "a b")
    mark_used(other)
    with pytest.raises(ValueError, match="legal Verilog identifier, not 'module'"):
        library.add(other, "module")
    with pytest.raises(ValueError, match="prefix must be a legal Verilog identifier, not '1'"):
        Library("1")
    with pytest.raises(ValueError, match="top must be a module of the text, not 'x'"):
        record(library, "x")


class Storage(wiring.Component):
    def __init__(self, init):
        self.init = init
        super().__init__({"a": In(4), "d": In(8), "w": In(1), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=16, init=self.init)
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [read.addr.eq(self.a), self.o.eq(read.data), write.addr.eq(self.a),
                     write.data.eq(self.d), write.en.eq(self.w)]
        return m


@pytest.mark.parametrize("init, lines", [([], 0), ([1, 2], 16)])
def test_memories_of_zeros_have_no_initial_block(init, lines):
    library = Library()
    library.add(Storage(init), "storage")
    assert len(re.findall(r"^    mem\w*\[\d+\] = ", library.verilog(), re.M)) == lines


class Reserved(wiring.Component):
    def __init__(self):
        super().__init__({"function": In(4), "output": Out(4)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.output.eq(~self.function)
        return m


def test_reserved_port_names_are_changed():
    library = Library()
    assert library.add(Reserved(), "inverter").ports == {"function_", "output_"}
    assert "\\" not in library.verilog()


def test_lone_keyword_of_systemverilog_is_absent():
    library = Library()
    library.add(Parent(), "parent")
    assert not re.search(r"\b(logic|always_ff|always_comb|interface|typedef)\b", library.verilog())
