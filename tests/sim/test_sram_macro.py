"""The accelerator on a user's memory macro that returns meaningless words wherever the contract
allows it."""

import numpy as np
import pytest

from gen.top import generate
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import EPILOGUES, random_case
from sim.campaigns.regression import compare
from sim.harness.accelerator import Accelerator

PROGRAMS = 40
SMALL = {"dim": 4, "input_depth": 64, "weight_depth": 32, "acc_depth": 16, "row_depth": 8}
# Words never written, and words read in the cycle that writes them, are meaningless.
MACRO = """
`define OTTAVA_SRAM_1R1W
module ottava_sram_1r1w(clk, write_address, write_data, write_enable, read_address, read_enable,
                        read_data);
  parameter WIDTH = 8;
  parameter DEPTH = 16;
  parameter GRANULARITY = WIDTH;
  localparam [WIDTH-1:0] MEANINGLESS = {(WIDTH + 31) / 32{32'h5AC3961D}};
  input clk, read_enable;
  input [$clog2(DEPTH)-1:0] write_address, read_address;
  input [WIDTH-1:0] write_data;
  input [WIDTH/GRANULARITY-1:0] write_enable;
  output reg [WIDTH-1:0] read_data;
  reg [WIDTH-1:0] words [DEPTH-1:0];
  integer index;
  initial for (index = 0; index < DEPTH; index = index + 1) words[index] = MEANINGLESS;
  genvar part;
  generate
    for (part = 0; part < WIDTH / GRANULARITY; part = part + 1) begin : parts
      always @(posedge clk)
        if (write_enable[part])
          words[write_address][part*GRANULARITY+:GRANULARITY]
            <= write_data[part*GRANULARITY+:GRANULARITY];
    end
  endgenerate
  always @(posedge clk)
    if (read_enable)
      read_data <= COLLISION ? MEANINGLESS : words[read_address];
endmodule
"""
CLASH = "|write_enable && write_address == read_address"


def accelerator(collision):
    config = AcceleratorConfig("posit8", **SMALL)
    text = MACRO.replace("COLLISION", collision) + generate(config, sram="blackbox")
    return Accelerator(config, verilog=text)


def run(machine, programs):
    rng = np.random.default_rng(17)
    return sum(compare(
        machine, random_case(machine.config, rng, epilogue=EPILOGUES[index % len(EPILOGUES)]),
        "light" if index % 2 else "ideal", index) for index in range(programs))


@pytest.mark.slow
def test_no_result_depends_on_what_a_macro_may_do():
    compared = run(accelerator(CLASH), PROGRAMS)
    assert compared > 20 * PROGRAMS
    print(f"{PROGRAMS} programs, {compared} bytes compared")


@pytest.mark.slow
def test_rubbish_in_every_read_is_seen():
    with pytest.raises(AssertionError):
        run(accelerator("1'b1"), PROGRAMS)
