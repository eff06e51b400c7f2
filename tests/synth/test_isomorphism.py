"""One circuit under other names is recognised; one wire, gate or constant that differs is found."""

import pytest

from gen.block import generate_block
from hdl.spec.config import AcceleratorConfig
from synth.isomorphism import compare, main
from synth.netlist import read_design
from synth.yosys import quoted, run_yosys

OLD = """\
module top(clk, a, b, en, at, o, p);
  input clk, en; input [7:0] a, b; input [2:0] at; output [7:0] o, p;
  wire [7:0] less;
  reg [7:0] held = 8'h12; reg [7:0] twin = 8'h12; reg [7:0] mem [7:0];
  reg [7:0] read;
  less_by lower(.x(a), .y(b), .o(less));
  always @(posedge clk) begin
    if (en) begin held <= less; twin <= less ^ 8'h5a; mem[at] <= a; end
    read <= mem[at];
  end
  assign o = held; assign p = twin & read;
endmodule
module less_by(x, y, o); input [7:0] x, y; output [7:0] o; assign o = x - y; endmodule
"""
# Two halves of a register, a memory's columns in another order, no hierarchy, other names.
NEW = """\
module other(clk, a, b, en, at, o, p);
  input clk, en; input [7:0] a, b; input [2:0] at; output [7:0] o, p;
  wire [7:0] w = a - b;
  reg [3:0] r0 = 4'h2; reg [3:0] r1 = 4'h1; reg [7:0] r2 = 8'h12; reg [7:0] s [7:0];
  reg [7:0] t;
  always @(posedge clk) begin
    if (en) begin r0 <= w[3:0]; r1 <= w[7:4]; s[at] <= {a[0], a[7:1]}; end
    t <= s[at];
  end
  always @(posedge clk) r2 <= en ? w ^ 8'h5a : r2;
  assign o = {r1, r0}; assign p = r2 & {t[6:0], t[7]};
endmodule
"""


def netlist(text, top=None):
    return read_design([(".v", text)], top)


def test_one_circuit_in_two_dresses():
    old, new = netlist(OLD), netlist(NEW)
    assert compare(old, new) is None and old.digest == new.digest
    assert old.counts["register bits"] == 24 and old.counts["memory bits"] == 8
    assert old.counts["gates"] > 30


@pytest.mark.parametrize("find, put, told", [
    ("x - y", "y - x", "input 0 of "),
    ("x - y", "x + y", "$add "),
    ("8'h5a", "8'h5b", "$not "),
    ("twin = 8'h12", "twin = 8'h13", "of 0 in the old design"),
    ("twin & read", "twin | read", "$or "),
    ("o = held", "o = {held[7:1], held[1]}", "output o[1]: $dff "),
    ("mem[at] <= a", "mem[at] <= b", "input a[0]"),
    ("less ^ 8'h5a", "a ^ 8'h5a", "input a[0]"),
    ("if (en)", "if (!en)", "$"),
    ("posedge clk", "negedge clk", "$dff "),
    ("output [7:0] o, p", "output [7:0] o; output [8:0] p", "output p[8]"),
    ("input clk, en", "input clk, en, more", "input more[0]"),
])
def test_what_differs_is_found_and_named(find, put, told):
    changed = OLD.replace(find, put).replace("(clk, a,", "(clk, more, a," if "more" in put
                                             else "(clk, a,")
    assert changed != OLD
    old, new = netlist(OLD), netlist(changed)
    difference = compare(old, new)
    assert difference is not None and old.digest != new.digest
    assert told in str(difference)


@pytest.mark.parametrize("gates, same", [
    ("~~x", "x"), ("~zero ^ x", "~x"), ("x & one", "x"), ("x & zero | y", "y"), ("x | zero", "x"),
    ("x | one", "~(x ^ x)"), ("x ^ one", "~x"), ("x ^ zero", "x"), ("x & x", "x"), ("x | x", "x"),
    ("x ? one : zero", "x"), ("x ? zero : one", "~x"), ("one ? x : y", "x"), ("zero ? x : y", "y"),
    ("x ? y : y", "y"), ("~x ? zero : y", "x ? y : zero"), ("x ^ x", "zero"), ("+x", "x"),
])
def test_gates_that_are_none_do_not_count(gates, same):
    # The constants come from outside, so that Yosys cannot fold them before.
    text = """module top(a, b, o, p); input a, b; output o, p;
      leaf l(.x(a), .y(b), .zero(1'b0), .one(1'b1), .o(o)); assign p = a & b; endmodule
      module leaf(x, y, zero, one, o); input x, y, zero, one; output o; assign o = %s; endmodule"""
    assert compare(netlist(text % gates), netlist(text % f"({same})")) is None
    assert compare(netlist(text % gates), netlist(text % f"({same}) ^ y")) is not None


def test_two_equal_registers_are_not_one():
    text = """module top(clk, d, o, p); input clk, d; output o, p;
      reg q = 0, r = 0; always @(posedge clk) begin q <= d; r <= d; end
      assign o = q; assign p = %s; endmodule"""
    assert compare(netlist(text % "r"), netlist(text % "q")) is not None
    assert compare(netlist(text % "r"), netlist(text % "r")) is None


def test_memory_contents_count():
    text = """module top(clk, at, o); input clk; input [1:0] at; output reg [3:0] o;
      reg [3:0] m [3:0]; initial begin m[0] = 1; m[1] = 2; m[2] = %d; m[3] = 4; end
      always @(posedge clk) o <= m[at]; endmodule"""
    assert compare(netlist(text % 3), netlist(text % 3)) is None
    assert "$mem_v2" in str(compare(netlist(text % 3), netlist(text % 7)))


def test_nothing_to_compare_is_refused():
    wire = netlist("module top(a, o); input a; output o; assign o = a; endmodule")
    with pytest.raises(ValueError, match="an output port that depends on a cell"):
        compare(wire, wire)


@pytest.mark.parametrize("text, message", [
    ("module top(a, o); input a; output o; wire l = ~(l & a); assign o = l; endmodule", "a loop"),
    ("module top(a, o); input a; output o; box b(.x(a), .y(o)); endmodule", "'box' must be in"),
    ("module top(a, b, o); input a, b; output o; assign o = ~a; assign o = a & b; endmodule",
     "one driver"),
])
def test_what_is_no_netlist_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        netlist(text)


@pytest.fixture(scope="module")
def multiply_accumulate(tmp_path_factory):
    """Texts: a block, the same with every name renewed, the same with one gate changed."""
    folder = tmp_path_factory.mktemp("mac")
    source, renamed, spoiled = (folder / f"{name}.v" for name in ("mac", "renamed", "spoiled"))
    text = generate_block("mac", AcceleratorConfig("fp8", acc="fp32"))
    source.write_text(text)
    run_yosys([f"read_verilog {quoted(source)}", "hierarchy -top mac", "proc -norom",
               "rename -enumerate -pattern _%_", "rename -enumerate -pattern n%n w:*",
               f"write_verilog -noattr {quoted(renamed)}"])
    before, gate, after = text.partition(" ^ ")
    assert gate
    spoiled.write_text(before + " | " + after)
    return source, renamed, spoiled


def test_command_accepts_renamed_block_and_finds_one_gate(multiply_accumulate, capsys):
    source, renamed, spoiled = map(str, multiply_accumulate)
    assert main([source, renamed, "--top", "mac"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("isomorphic: ") and "output bits; structure " in told
    assert int(told.split()[1].replace(",", "")) > 500
    assert main([source, spoiled, "--top", "mac"]) == 1
    assert capsys.readouterr().out.startswith("differ at ")


@pytest.mark.parametrize("arguments, message", [
    (["absent.v", "absent.v"], "design must be a readable text, not 'absent.v'"),
    (["{folder}/a.txt", "{folder}/a.txt"], "a design must end in one of .v, .sv, .il, .rtlil, not"),
    (["{folder}/a.v", "{folder}/a.v"], "ERROR: syntax error"),
])
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    for name in ("a.txt", "a.v"):
        (tmp_path / name).write_text("no design")
    with pytest.raises(SystemExit) as stopped:
        main([argument.format(folder=tmp_path) for argument in arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
