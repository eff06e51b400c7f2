"""A self-checking test bench for a simulator that knows nothing of this project."""

from collections.abc import Iterator, Mapping

from gen.cli import comment, describe, describe_surroundings
from gen.design import Design, Port
from gen.identification import whole_registers
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    ISA_MAJOR,
    MAGIC,
    Destination,
    Opcode,
    features_of,
    pack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS

__all__ = ["copy_program", "self_test"]

_SIZE = 2048
_ROWS, _COLUMNS = 3, 21
_FROM, _TO = 0x200, 0x406  # of the copy; the second is at no multiple of any bus's bytes

_TEXT = """\
// Runs {name} between a memory and a host: it must copy {rows} x {columns} items, raise its
// interrupt and write nothing else. $fatal where it does not.
{config}`timescale 1ns / 1ps
module {name}_tb;
  localparam BYTES = {bytes}, SIZE = {size}, COUNT = {count}, LIMIT = 20000;
  localparam [63:0] BASE = 64'h{base:x}, FROM = {source}, TO = {target};
  localparam [{top}:0] PROGRAM = {bits}'h{program:x};

{clocks}

{signals}

  {name} dut (
{pins}
  );

  reg [7:0] memory [0:SIZE-1], expected [0:SIZE-1];
  integer place, differing, cycles;

  // Codes near 1, which every format has: a copy leaves them as they are.
  function [7:0] code(input integer index);
    code = {code};
  endfunction

  function held(input [63:0] address);
    held = address >= BASE && address < BASE + SIZE;
  endfunction

  function [8*BYTES-1:0] word(input [63:0] address);
    integer lane;
    for (lane = 0; lane < BYTES; lane = lane + 1)
      word[8*lane +: 8] = held(address + lane) ? memory[address - BASE + lane] : 8'h0;
  endfunction

  // The memory: one burst to be read and one to be written at a time.
  reg [63:0] read_address, write_address;
  reg [8:0] reads = 0;
  reg writing = 0;
  integer lane;
  assign m_axi_gmem_arready = reads == 0;
  assign m_axi_gmem_awready = !writing;
  assign m_axi_gmem_wready = writing && !m_axi_gmem_bvalid;
  always @(posedge aclk) {counts}begin
    if (m_axi_gmem_arvalid && m_axi_gmem_arready) begin
      read_address <= m_axi_gmem_araddr;
      reads <= m_axi_gmem_arlen + 1;
    end else if (reads != 0 && !m_axi_gmem_rvalid) begin
      m_axi_gmem_rdata <= word(read_address);
      m_axi_gmem_rresp <= held(read_address) ? 0 : 2;
      m_axi_gmem_rlast <= reads == 1;
      m_axi_gmem_rvalid <= 1;
    end else if (m_axi_gmem_rvalid && m_axi_gmem_rready) begin
      m_axi_gmem_rvalid <= 0;
      read_address <= read_address + BYTES;
      reads <= reads - 1;
    end
    if (m_axi_gmem_awvalid && m_axi_gmem_awready) begin
      write_address <= m_axi_gmem_awaddr;
      writing <= 1;
    end
    if (m_axi_gmem_wvalid && m_axi_gmem_wready) begin
      for (lane = 0; lane < BYTES; lane = lane + 1)
        if (m_axi_gmem_wstrb[lane]) begin
          if (!held(write_address + lane)) $fatal(1, "written outside at %h", write_address);
          memory[write_address - BASE + lane] <= m_axi_gmem_wdata[8*lane +: 8];
        end
      write_address <= write_address + BYTES;
      m_axi_gmem_bvalid <= m_axi_gmem_wlast;
    end else if (m_axi_gmem_bvalid && m_axi_gmem_bready) begin
      m_axi_gmem_bvalid <= 0;
      writing <= 0;
    end
  end

  // The host: an edge of its clock that counts, and the same with what it causes.
  task tick;
    begin
      @(posedge {host});
{waits}    end
  endtask

  task step;
    begin
      tick;
      #1;
    end
  endtask

  task put(input [11:0] offset, input [31:0] value);
    begin
      s_axi_ctrl_awaddr <= offset;
      s_axi_ctrl_wdata <= value;
      s_axi_ctrl_awvalid <= 1;
      s_axi_ctrl_wvalid <= 1;
      while (s_axi_ctrl_awvalid || s_axi_ctrl_wvalid) begin
        tick;
        if (s_axi_ctrl_awready) s_axi_ctrl_awvalid <= 0;
        if (s_axi_ctrl_wready) s_axi_ctrl_wvalid <= 0;
        #1;
      end
      while (!s_axi_ctrl_bvalid) step;
      step;
    end
  endtask

  task check(input [11:0] offset, input [31:0] value);
    begin
      s_axi_ctrl_araddr <= offset;
      s_axi_ctrl_arvalid <= 1;
      tick;
      while (!s_axi_ctrl_arready) tick;
      s_axi_ctrl_arvalid <= 0;
      #1;
      while (!s_axi_ctrl_rvalid) step;
      if (s_axi_ctrl_rdata !== value)
        $fatal(1, "register %h must be %h, not %h", offset, value, s_axi_ctrl_rdata);
      step;
    end
  endtask

  initial begin
{idle}
    for (place = 0; place < SIZE; place = place + 1) memory[place] = 8'hA5 ^ place;
    for (place = 0; place < ({top} + 1) / 8; place = place + 1)
      memory[place] = PROGRAM[8*place +: 8];
    for (place = 0; place < COUNT; place = place + 1) memory[FROM + place] = code(place);
    for (place = 0; place < SIZE; place = place + 1) expected[place] = memory[place];
    for (place = 0; place < COUNT; place = place + 1) expected[TO + place] = code(place);
{leave}    step;
{identify}
    put('h{program_low:x}, BASE[31:0]);
    put('h{program_high:x}, BASE[63:32]);
    put('h{enable:x}, 3);
    put('h{control:x}, 1);
    for (cycles = 0; !interrupt && cycles < LIMIT; cycles = cycles + 1) @(posedge aclk) #1;
    check('h{error:x}, 0);
    check('h{status:x}, 2);
    differing = 0;
    for (place = 0; place < SIZE; place = place + 1)
      if (memory[place] !== expected[place]) differing = differing + 1;
    if (differing != 0) $fatal(1, "%0d of %0d bytes differ", differing, SIZE);
    $display("{name}: copied %0d bytes in %0d cycles, %0d bytes compared, 0 differ", COUNT, cycles,
             SIZE);
    $finish;
  end
endmodule
"""


def copy_program(config: AcceleratorConfig, base: int) -> bytes:
    """A header, a VECTOR that copies X to C, END; for addresses from ``base`` on."""
    size = config.format.storage_bytes
    header = pack(HEADER, {
        "magic": MAGIC, "isa_major": ISA_MAJOR, "commands": 2, "config_hash": config.hash,
        "features": int(features_of(config))}, HEADER_BYTES)
    last = pack(INSTRUCTION, {"destination": Destination.MEMORY, "last": 1}, 4)
    copy = pack(COMMAND, {
        "opcode": Opcode.VECTOR, "m": _ROWS, "k": 1, "n": _COLUMNS,
        "a_address": base + _FROM, "a_stride": size * _COLUMNS,
        "c_address": base + _TO, "c_stride": size * _COLUMNS,
        "instructions": int.from_bytes(last, "little")}, COMMAND_BYTES)
    return header + copy + pack(COMMAND, {"opcode": Opcode.END}, COMMAND_BYTES)


def self_test(design: Design, config: AcceleratorConfig) -> str:
    """The bench in SystemVerilog (for ``$fatal``), module ``…_tb``."""
    offsets = {register.name: register.offset for register in REGISTERS}
    # Above 4 GiB, where the build has such addresses.
    base = 1 << min(32, design.surroundings.address_bits - 1)
    program, wide = copy_program(config, base), config.format.storage_bytes > 1
    ports = design.modules[design.top].ports
    around, apart = design.surroundings, ("clock", "reset", "enable")
    clocks = [port.name for port in ports if port.role == "clock"]
    resets = dict(zip(clocks, (port.name for port in ports if port.role == "reset"), strict=True))
    driven = [port for port in ports if port.direction == "input" and port.role not in apart]
    registers = [port for port in driven if port.role not in ("arready", "awready", "wready")
                 or not port.bus.startswith("m_")]
    return _TEXT.format(
        name=design.top,
        config=comment([describe(config), *describe_surroundings(around)]),
        clocks="\n".join(_clocks(resets, around.clock_enable)),
        counts="if (aclken) " if around.clock_enable else "", host=clocks[-1],
        waits="      while (!aclken) @(posedge aclk);\n"
        if around.clock_enable and len(clocks) == 1 else "",
        leave="".join(f"    repeat (8) @(posedge {clock});\n    {reset} <= 1;\n"
                      for clock, reset in resets.items()), rows=_ROWS, columns=_COLUMNS,
        bytes=config.bus_bytes, size=_SIZE, base=base, source=_FROM, target=_TO,
        count=_ROWS * _COLUMNS * config.format.storage_bytes, bits=8 * len(program),
        top=8 * len(program) - 1, program=int.from_bytes(program, "little"),
        code="index % 2 ? 8'h3F : index * 7" if wide else "8'h30 + index % 32",
        signals="\n".join(f"  {'reg' if port in registers else 'wire'} {port.wire};"
                          for port in ports if port.role not in apart),
        pins=",\n".join(f"    .{port.name}({port.name})" for port in ports),
        idle="\n".join(f"    {port.name} = {_idle(port)};" for port in registers),
        identify="\n".join(f"    check('h{offsets[name]:x}, 32'h{value:08x});"
                           for name, value in whole_registers(config).items()),
        program_low=offsets["PROGRAM_LOW"], program_high=offsets["PROGRAM_HIGH"],
        enable=offsets["INTERRUPT_ENABLE"], control=offsets["CONTROL"], error=offsets["ERROR"],
        status=offsets["STATUS"])


def _clocks(resets: Mapping[str, str], enabled: bool) -> Iterator[str]:
    """Clocks of periods that have little in common, each with its reset; edges that do not count at
    random."""
    for half, (clock, reset) in zip((5, 8), resets.items(), strict=False):
        yield from (f"  reg {clock} = 0, {reset} = 0;", f"  always #{half} {clock} = ~{clock};")
    if enabled:
        yield from ("  reg aclken = 1;", "  always @(negedge aclk) aclken = $random;")


def _idle(port: Port) -> str:
    """What the bench drives at first: it takes every answer, and writes whole words."""
    return {"bready": "1", "rready": "1", "wstrb": "4'hF"}.get(port.role, "0")
