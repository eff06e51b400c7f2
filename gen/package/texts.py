"""Small files of a package: FuseSoC's core, Vivado's script, an instance to copy."""

from gen import __version__
from gen.cli import describe, describe_surroundings
from gen.design import Design
from hdl.spec.config import AcceleratorConfig

__all__ = ["core", "instance", "vivado_script"]

_CORE = """\
CAPI=2:
# {config}
name: ottava:accelerator:{top}:{version}
description: Ottava accelerator, one AXI4 master and one AXI4-Lite slave

filesets:
  rtl:
    files:
      - {top}.v: {{file_type: verilogSource}}
  waivers:
    files:
      - {top}.vlt: {{file_type: vlt}}
  bench:
    files:
      - {top}_tb.sv: {{file_type: systemVerilogSource}}
  header:
    files:
      - {top}.h: {{file_type: user}}
      - {top}.rdl: {{file_type: user}}
      - {top}.sdc: {{file_type: SDC}}

targets:
  default:
    filesets: [rtl]

  lint:
    description: Verilator -Wall, with the waivers that generated Verilog needs
    filesets: [waivers, rtl]
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [--lint-only, -Wall]
    toplevel: {top}

  sim:
    description: a copy in memory, every byte compared, on Icarus
    filesets: [rtl, bench]
    flow: sim
    flow_options:
      tool: icarus
      iverilog_options: [-g2012]
    toplevel: {top}_tb

  synth:
    description: gates of an ECP5 by Yosys
    filesets: [rtl]
    default_tool: yosys
    tools:
      yosys:
        arch: ecp5
        output_format: json
    toplevel: {top}
"""

_VIVADO = """\
# Packages {top}.v as an IP of Vivado: vivado -mode batch -source {top}_vivado.tcl
# {config}
set here [file dirname [file normalize [info script]]]
create_project -in_memory
add_files [file join $here {top}.v]
set_property top {top} [current_fileset]
ipx::package_project -root_dir [file join $here {top}_ip] -vendor ottava -library accelerator \\
  -taxonomy /UserIP -import_files -set_current true
set core [ipx::current_core]
set_property name {top} $core
set_property version {version} $core
{lines}
ipx::associate_bus_interfaces -busif s_axi_ctrl -clock {control} $core
ipx::associate_bus_interfaces -busif m_axi_gmem -clock aclk $core
ipx::add_file {top}.sdc [ipx::get_file_groups xilinx_anylanguagesynthesis -of_objects $core]
ipx::update_checksums $core
ipx::save_core $core
"""


def core(design: Design, config: AcceleratorConfig) -> str:
    """FuseSoC's description, CAPI2: targets ``default``, ``lint``, ``sim`` and ``synth``."""
    return _CORE.format(top=design.top, config=_told(design, config), version=__version__)


def vivado_script(design: Design, config: AcceleratorConfig) -> str:
    """Tcl that makes an IP of Vivado; no Vivado was at hand to run it."""
    ports = design.modules[design.top].ports
    return _VIVADO.format(
        top=design.top, config=_told(design, config),
        control="s_axi_ctrl_aclk" if design.surroundings.control_clock else "aclk",
        lines="\n".join(f"ipx::infer_bus_interface {{{port.name}}} "
                        f"xilinx.com:signal:{port.role}_rtl:1.0 $core" for port in ports
                        if port.role in ("clock", "reset", "interrupt")),
        version=".".join(__version__.split(".")[:2]))


def _told(design: Design, config: AcceleratorConfig) -> str:
    """The build in lines of a comment."""
    return "\n# ".join([describe(config), *describe_surroundings(design.surroundings)])


def instance(design: Design) -> str:
    """An instance of the accelerator in Verilog, each port at a wire of its own name."""
    ports = design.modules[design.top].ports
    wires = "\n".join(f"wire {port.wire};" for port in ports)
    listed = ",\n".join(f"  .{port.name}({port.name})" for port in ports)
    return f"{wires}\n\n{design.top} u_{design.top} (\n{listed}\n);\n"
