"""Constant bits of a variable that other logic drives in part have their value on Icarus."""

import subprocess

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.leaves import Library
from support.require import command, require

BENCH = """
module bench;
  wire [11:0] o;
  part dut(.i(4'd5), .o(o));
  initial #1 $display("%b", o);
endmodule
"""


class Part(wiring.Component):
    def __init__(self):
        super().__init__({"i": In(4), "o": Out(data.StructLayout({"a": 4, "b": 4, "c": 4}))})

    def elaborate(self, platform):
        m = Module()
        chosen = Signal(4)
        with m.If(self.i[0]):
            m.d.comb += chosen.eq(9)
        m.d.comb += [self.o.a.eq(3), self.o.b.eq(chosen)]
        return m


@pytest.mark.parametrize("standard", ["2005", "2012"])
def test_constants_are_known(tmp_path, standard):
    require(command, "iverilog", "vvp")
    library = Library()
    library.add(Part(), "part")
    source, program = tmp_path / "part.v", tmp_path / "part.vvp"
    source.write_text(library.verilog() + BENCH)
    subprocess.run(["iverilog", f"-g{standard}", "-s", "bench", "-o", program, source], check=True)
    done = subprocess.run(["vvp", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "000010010011"
