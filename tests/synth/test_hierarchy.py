"""Units, instances and memory bits, on a text that is counted by hand."""

import pytest

from synth.hierarchy import FEW, Hierarchy

LEAF = """\
module leaf(a, y);
  input a;
  wire a;
  output y;
  wire y;
  assign y = ~a;
endmodule
"""
PAIR = """\
module pair(a, y);
  input [1:0] a;
  wire [1:0] a;
  output [1:0] y;
  wire [1:0] y;
  leaf low (
    .a(a[0]),
    .y(y[0])
  );
  leaf \\pair.high  (
    .a(a[1]),
    .y(y[1])
  );
endmodule
"""
MEMORY = """\
module ottava_sram_1r1w_8x16(clk, read_address, read_data);
  input clk;
  wire clk;
  input [3:0] read_address;
  wire [3:0] read_address;
  output [7:0] read_data;
  reg [7:0] read_data;
  reg [7:0] storage [15:0];
  always @(posedge clk) read_data <= storage[read_address];
endmodule
"""


def parent(name, child, times):
    cells = "".join(f"  {child} {child}{index} (\n    .a(a)\n  );\n" for index in range(times))
    return f"module {name}(a);\n  input [1:0] a;\n  wire [1:0] a;\n{cells}endmodule\n"


def test_instances_multiply_down_the_tree():
    text = LEAF + PAIR + parent("row", "pair", 8) + parent("top", "row", 3)
    hierarchy = Hierarchy(text, "top")
    assert hierarchy.counts == {"top": 1, "row": 3, "pair": 24, "leaf": 48}


def test_few_instances_are_flattened_and_many_are_units():
    few = Hierarchy(LEAF + PAIR + parent("top", "pair", FEW), "top")
    assert few.units == {"top"}
    many = Hierarchy(LEAF + PAIR + parent("top", "pair", FEW + 1), "top")
    assert many.units == {"top", "pair"}


def test_what_holds_a_unit_is_a_unit():
    text = LEAF + PAIR + parent("row", "pair", 8) + parent("top", "row", 1)
    assert Hierarchy(text, "top").units == {"top", "row", "pair"}


def test_unit_text_holds_members_whole_and_units_as_black_boxes():
    hierarchy = Hierarchy(LEAF + PAIR + parent("top", "pair", 8), "top")
    own = hierarchy.unit_text("top")
    assert "(* blackbox *)\nmodule pair(a, y);\n  input [1:0] a;\n  output [1:0] y;" in own
    assert "module leaf" not in own
    whole = hierarchy.unit_text("pair")
    assert "blackbox" not in whole and "assign y = ~a" in whole


def test_memory_is_a_unit_and_its_bits_count_with_its_instances():
    text = MEMORY + parent("row", "ottava_sram_1r1w_8x16", 2) + parent("top", "row", 3)
    hierarchy = Hierarchy(text, "top")
    assert hierarchy.memory_bits == 3 * 2 * 16 * 8
    assert "ottava_sram_1r1w_8x16" in hierarchy.units


def test_top_must_exist():
    with pytest.raises(ValueError, match=r"^top must be a module of the text, not 'absent'$"):
        Hierarchy(LEAF, "absent")
