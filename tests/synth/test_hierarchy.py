"""Units, instances and memory bits, on designs that are counted by hand."""

import pytest

from gen.design import Design, Memory, Module, Port
from synth.hierarchy import FEW, Hierarchy

LEAF = Module("leaf", "module leaf(input a, output y);\n  assign y = ~a;\nendmodule\n",
              (Port("a", "input", 1), Port("y", "output", 1)))
PAIR = Module("pair", "module pair(input [1:0] a, output [1:0] y);\n  leaf low(a[0], y[0]);\n"
              "  leaf high(a[1], y[1]);\nendmodule\n",
              (Port("a", "input", 2), Port("y", "output", 2)), {"leaf": 2})
MEMORY = Module("bank", "module bank(input [3:0] a, output [7:0] y);\n  macro ram(a, y);\n"
                "endmodule\n", (Port("a", "input", 4), Port("y", "output", 8)), {"macro": 1},
                (Memory("ram", 8, 16, 8, macro="macro"),), is_memory=True)
MACRO = Module("macro", "// storage\n", (), macro=True, is_memory=True)


def parent(name, child, times):
    cells = "".join(f"  {child} {child}{index}(a);\n" for index in range(times))
    return Module(name, f"module {name}(input [1:0] a);\n{cells}endmodule\n",
                  (Port("a", "input", 2),), {child: times})


def hierarchy(*modules):
    """Of ``modules``, of which the last is the top."""
    return Hierarchy(Design(modules[-1].name, {module.name: module for module in modules}))


def test_instances_multiply_down_the_tree():
    tree = hierarchy(LEAF, PAIR, parent("row", "pair", 8), parent("top", "row", 3))
    assert tree.counts == {"top": 1, "row": 3, "pair": 24, "leaf": 48}


def test_few_instances_are_flattened_and_many_are_units():
    assert hierarchy(LEAF, PAIR, parent("top", "pair", FEW)).units == {"top"}
    assert hierarchy(LEAF, PAIR, parent("top", "pair", FEW + 1)).units == {"top", "pair"}


def test_what_holds_a_unit_is_a_unit():
    tree = hierarchy(LEAF, PAIR, parent("row", "pair", 8), parent("top", "row", 1))
    assert tree.units == {"top", "row", "pair"}


def test_a_unit_holds_members_whole_and_units_as_black_boxes():
    tree = hierarchy(LEAF, PAIR, parent("top", "pair", 8))
    own = tree.unit("top")
    assert own.text == tree.modules["top"].text + (
        "(* blackbox *)\nmodule pair(\n  input [1:0] a,\n  output [1:0] y\n);\nendmodule\n")
    assert own.boxes == {"pair"}
    whole = tree.unit("pair")
    assert whole.text == LEAF.text + PAIR.text and not whole.boxes


def test_memory_is_a_unit_and_its_bits_count_with_its_instances():
    tree = hierarchy(MACRO, MEMORY, parent("row", "bank", 2), parent("top", "row", 3))
    assert tree.memories == {"bank": 6} and tree.memory_bits == 3 * 2 * 16 * 8
    assert {"bank", "macro"} < tree.units
    assert tree.unit("top").boxes == {"row"} and tree.unit("row").boxes == {"bank"}


def test_what_the_text_does_not_define_is_left_out():
    assert hierarchy(parent("top", "elsewhere", 9)).counts == {"top": 1}


def test_top_must_exist():
    with pytest.raises(ValueError, match=r"^top must be a module of the text, not 'absent'$"):
        Design("absent", {"leaf": LEAF})
