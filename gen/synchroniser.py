"""The module that carries a bit to another clock, which a library's own cell may replace."""

__all__ = ["PORTS", "SYNCHRONISER", "synchroniser_module"]

SYNCHRONISER = "ottava_synchroniser"
PORTS = (("clk", "input", 1), ("d", "input", 1), ("q", "output", 1))

_TEXT = """\
// q is d after two or three edges of clk, whatever the clock that d changes with. ASYNC_REG tells
// Vivado to keep both registers side by side; the registers have no reset.
module {name}(
  input clk,
  input d,
  output q
);
  (* ASYNC_REG = "TRUE" *) reg [1:0] stages;
  always @(posedge clk) stages <= {{stages[0], d}};
  assign q = stages[1];
endmodule
"""


def synchroniser_module(name: str) -> str:
    """Verilog-2005 of it as module ``name``.

    A text that was read before and defines the module's name in capitals supplies it instead.
    """
    return (f"\n`ifndef {name.upper()}\n`define {name.upper()}\n{_TEXT.format(name=name)}"
            "`endif\n")
