"""The memory module that every generated text ends with: inferred storage or a black box.

``hdl.lib.sram`` instantiates it once in a module for each size; a foundry macro or a vendor's
primitive takes its place (docs/integration.md).
"""

__all__ = ["PORTS", "SRAM", "SRAM_FORMS", "sram_module"]

SRAM = "ottava_sram_1r1w"
SRAM_FORMS = ("infer", "uncollided", "blackbox")

_CONTRACT = """\
// DEPTH words of WIDTH bits. A word is written in the granules of GRANULARITY bits whose bit of
// write_enable is set, the lowest granule first. read_data follows read_address by one cycle where
// read_enable is set and otherwise holds. The accelerator uses neither a word that is read in the
// cycle that writes it, nor one that was never written: both may be anything.
"""
# Name, direction, and bits where the parameters have their defaults.
PORTS = (("clk", "input", 1), ("write_address", "input", 4), ("write_data", "input", 8),
         ("write_enable", "input", 1), ("read_address", "input", 4), ("read_enable", "input", 1),
         ("read_data", "output", 8))

_PORTS = """\
  parameter WIDTH = 8;
  parameter DEPTH = 16;
  parameter GRANULARITY = WIDTH;
  input clk;
  input [$clog2(DEPTH)-1:0] write_address;
  input [WIDTH-1:0] write_data;
  input [WIDTH/GRANULARITY-1:0] write_enable;
  input [$clog2(DEPTH)-1:0] read_address;
  input read_enable;
  output [WIDTH-1:0] read_data;
"""
# To Yosys, Vivado and Synplify.
_BLACK_BOX = '(* blackbox, black_box = "yes", syn_black_box *)\n'
# To Yosys, Vivado and Quartus: no logic around a block RAM for a word that is read while written.
_UNCOLLIDED = """\
  (* no_rw_check, rw_addr_collision = "no", ramstyle = "no_rw_check" *)
"""
_STORAGE = """\
  reg [WIDTH-1:0] storage [DEPTH-1:0];
  reg [WIDTH-1:0] word;
  integer granule;
  always @(posedge clk)
    for (granule = 0; granule < WIDTH / GRANULARITY; granule = granule + 1)
      if (write_enable[granule])
        storage[write_address][granule * GRANULARITY +: GRANULARITY]
          <= write_data[granule * GRANULARITY +: GRANULARITY];
  always @(posedge clk)
    if (read_enable)
      word <= storage[read_address];
  assign read_data = word;
"""


def _by_size(storage: str) -> str:
    """``storage`` in a block of an FPGA where it has 16 words and 512 bits: it is full soon, where
    blocks are plenty and a memory of look-up tables takes some of them for 64 bits and more to
    choose among these."""
    indented = "".join(f"  {line}\n" for line in storage.splitlines())
    return ("  generate\n    if (DEPTH >= 16 && WIDTH * DEPTH >= 512) begin : in_blocks\n"
            f"    (* ram_style = \"block\" *)\n{indented}    end else begin : in_tables\n"
            f"{indented}    end\n  endgenerate\n")


def sram_module(name: str, form: str, fpga: bool = False) -> str:
    """Verilog-2005 of the memory as module ``name``; ``form`` is one of ``SRAM_FORMS``:
    inferred storage, the same with attributes that tell synthesis that collisions do not matter,
    or a black box. ``fpga``: storage says where it belongs.

    A text that was read before and defines the module's name in capitals supplies it instead.
    ``ValueError`` names the allowed forms.
    """
    if form not in SRAM_FORMS:
        raise ValueError(f"sram must be one of {', '.join(SRAM_FORMS)}, not {form!r}")
    black_box = _BLACK_BOX if form == "blackbox" else ""
    storage = {"infer": _STORAGE, "uncollided": _UNCOLLIDED + _STORAGE}.get(form, "")
    if storage and fpga:
        storage = _by_size(storage)
    return (f"\n`ifndef {name.upper()}\n`define {name.upper()}\n{_CONTRACT}{black_box}"
            f"module {name}(clk, write_address, write_data, write_enable, read_address,\n"
            f"  read_enable, read_data);\n{_PORTS}{storage}endmodule\n`endif\n")
