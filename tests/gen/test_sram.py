"""The memory module: inferred storage, a black box, and a user's macro in its place."""

import json
import re

import numpy as np
import pytest
from amaranth.back import verilog

from gen.leaves import Library
from gen.recorder import record
from gen.sram import sram_module
from gen.top import design
from hdl.lib.fifo import SramFifo
from hdl.lib.sram import Sram1R1W
from hdl.spec.config import AcceleratorConfig
from sim.harness.batch import Batch
from synth.flow import Flow
from synth.hierarchy import Hierarchy
from synth.library import library_named
from synth.yosys import run_yosys

# A vendor's wrapper: the sizes it has, each from macros of one byte, and a fault to be seen.
MACRO = """
`define OTTAVA_SRAM_1R1W
module ottava_sram_1r1w(clk, write_address, write_data, write_enable, read_address, read_enable,
                        read_data);
  parameter WIDTH = 0;
  parameter DEPTH = 0;
  parameter GRANULARITY = 0;
  input clk, read_enable;
  input [3:0] write_address, read_address;
  input [WIDTH-1:0] write_data;
  input [WIDTH/GRANULARITY-1:0] write_enable;
  output [WIDTH-1:0] read_data;
  genvar lane;
  generate
    if (DEPTH == 16)
      for (lane = 0; lane < WIDTH / 8; lane = lane + 1) begin : bytes
        byte_macro macro(clk, write_address, write_data[8*lane+:8],
                         write_enable[8 * lane / GRANULARITY], read_address, read_enable,
                         read_data[8*lane+:8]);
      end
  endgenerate
endmodule
module byte_macro(input CK, input [3:0] WA, input [7:0] D, input WE, input [3:0] RA, input RE,
                  output reg [7:0] Q);
  reg [7:0] words [0:15];
  always @(posedge CK) begin
    if (WE) words[WA] <= D;
    if (RE) Q <= words[RA];
  end
endmodule
"""


def text_of(granularity, sram):
    library = Library(sram=sram)
    library.add(Sram1R1W(24, 16, granularity), "memory")
    return library.verilog()


def stimuli(granularity, cases=20_000):
    rng = np.random.default_rng(granularity or 1)
    enables = 1 << (24 // granularity if granularity else 1)
    return {"write__address": rng.integers(0, 16, cases),
            "read__address": rng.integers(0, 16, cases),
            "write__data": rng.integers(0, 1 << 24, cases),
            "read__enable": rng.integers(0, 2, cases),
            "write__enable": rng.integers(0, enables, cases)}


@pytest.mark.parametrize("granularity", [None, 8])
def test_every_form_behaves_as_the_simulators_memory(granularity):
    given = stimuli(granularity)
    ours = Sram1R1W(24, 16, granularity)
    texts = {"amaranth": verilog.convert(ours, name="memory", emit_src=False),
             "infer": text_of(granularity, "infer"),
             "uncollided": text_of(granularity, "uncollided"),
             "macro": MACRO + text_of(granularity, "blackbox")}
    words = {}
    for name, text in texts.items():
        batch = Batch(text, "memory")
        inputs = {**given, **({"rst": 0} if "rst" in batch.inputs else {})}
        words[name] = batch.run(inputs)["data"]
    assert len(np.unique(words["amaranth"])) > 1000
    assert (words["infer"] == words["amaranth"]).all()
    assert (words["uncollided"] == words["amaranth"]).all()
    assert (words["macro"] == words["amaranth"]).all()
    faulty = Batch(texts["macro"].replace("if (WE)", "if (WE & ~D[0])"), "memory")
    inputs = {**given, **({"rst": 0} if "rst" in faulty.inputs else {})}
    assert (faulty.run(inputs)["data"] != words["amaranth"]).any()


def test_a_block_ram_needs_no_logic_where_no_word_is_read_while_it_is_written(tmp_path):
    cells = {}
    for form in ("infer", "uncollided"):
        path, found = tmp_path / f"{form}.v", tmp_path / f"{form}.json"
        path.write_text(sram_module("ram", form))
        run_yosys([f'read_verilog "{path}"', "chparam -set WIDTH 64 -set DEPTH 1024 ram",
                   "synth_ecp5 -top ram", f'tee -q -o "{found}" stat -json'])
        cells[form] = json.loads(found.read_text())["design"]["num_cells_by_type"]
    print(cells)
    assert cells["uncollided"] == {"DP16KD": 4}
    assert cells["infer"]["DP16KD"] == 4 and cells["infer"]["LUT4"] > 64


def test_accelerator_holds_the_same_memories_in_both_forms():
    config = AcceleratorConfig(fmt="posit8", dim=4)
    designs = {sram: design(config, sram=sram) for sram in ("infer", "blackbox")}
    texts = {sram: made.text for sram, made in designs.items()}
    ends = {sram: text[text.index("`ifndef"):] for sram, text in texts.items()}
    assert texts["infer"].removesuffix(ends["infer"]) == \
        texts["blackbox"].removesuffix(ends["blackbox"])
    assert "reg " in ends["infer"] and "reg " not in ends["blackbox"]
    assert ends["blackbox"].count('(* blackbox, black_box = "yes", syn_black_box *)') == 1
    box, infer = (Hierarchy(designs[sram]) for sram in ("blackbox", "infer"))
    assert sum(box.memories.values()) == box.counts["ottava_sram_1r1w"] > 6
    assert box.memory_bits == infer.memory_bits == sum(
        times * int(width) * int(depth) for name, times in box.memories.items()
        for width, depth in re.findall(r"_(\d+)x(\d+)", name))


def test_yosys_takes_the_black_box_and_infers_memory_without(tmp_path):
    for sram, kept, cells in (("blackbox", "ottava_sram_1r1w", 0), ("infer", "$mem_v2", 1)):
        source = tmp_path / f"{sram}.v"
        source.write_text(text_of(8, sram))
        log = run_yosys([f"read_verilog {source}", "hierarchy -check -top memory", "proc",
                         "flatten", "opt", "memory -nomap", "stat"])
        assert kept in log[log.rindex("Printing statistics"):]
        assert log.count("$mem_v2", log.rindex("Printing statistics")) == cells


def test_memory_bits_count_beside_the_gates():
    library = Library()
    library.add(SramFifo(24, 16), "fifo")
    report = Flow(library_named()).measure(record(library, "fifo"))
    assert report.memory_bits == 24 * 16
    assert 0 < report.register_gates < 24 * 16


def test_unknown_form():
    for make in (lambda: Library(sram="latch"), lambda: sram_module("x", "latch")):
        with pytest.raises(ValueError, match="^sram must be one of .*blackbox, not 'latch'$"):
            make()
