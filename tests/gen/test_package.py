"""A package: its files, the IP-XACT component as other people's reader has it, FuseSoC's run."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pyosys
import pytest
from peakrdl_ipxact import IPXACTImporter
from systemrdl import RDLCompiler

from gen.identification import identification
from gen.package.__main__ import main
from gen.package.ip_xact import NAMESPACE
from gen.package.testbench import self_test
from gen.package.texts import instance
from gen.systemrdl import register_fields
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS
from sim.harness.verilate import verilator_shim
from support.require import command, require
from synth.lint import installed

CONFIG = AcceleratorConfig("fp8", dim=4)
FLAGS = ["--fmt", "fp8", "--dim", "4", "--name", "left", "--prefix", "left_"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("package")
    assert main([*FLAGS, "-o", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def component(folder):
    return ElementTree.parse(folder / "left.xml").getroot()


def found(element, path):
    return element.findall("/".join(f"{{{NAMESPACE}}}{tag}" for tag in path.split("/")))


def text(element, path):
    (only,) = found(element, path)
    return only.text


def test_every_file_is_there_and_named_after_the_top(folder):
    assert {path.name for path in folder.iterdir()} == {
        "left.v", "left.json", "left.h", "left.rdl", "left.sdc", "left.vlt", "left.core",
        "left.xml", "left_driver.h", "left_driver.py", "left_instance.v", "left_litex.py",
        "left_tb.sv", "left_vivado.tcl"}
    assert not [path for path in folder.iterdir() if "ottava_" in path.name]


def test_another_reader_finds_the_registers(folder):
    compiler = RDLCompiler()
    IPXACTImporter(compiler).import_file(str(folder / "left.xml"))
    (block,) = compiler.elaborate().top.children()
    read = {(register.inst_name, field.inst_name):
            (register.raw_absolute_address, field.low, field.width, field.get_property("reset"))
            for register in block.children() for field in register.children()}
    known = identification(CONFIG)
    wanted = {(register.name, field.name):
              (register.offset, field.low, field.bits,
               known.get((register.name, field.name), None if field.access == "ro" else 0))
              for register in REGISTERS for field in register_fields(register)}
    assert read == wanted and len(read) > 90


def test_ports_and_their_buses(component):
    ports = design(CONFIG, "left", "left_").modules["left"].ports
    listed = [(text(port, "name"), text(port, "wire/direction"),
               [int(vector.text) for vector in found(port, "wire/vectors/vector/left")])
              for port in found(component, "model/ports/port")]
    assert listed == [(port.name, port.direction.removesuffix("put"),
                       [port.width - 1] if port.width > 1 else []) for port in ports]
    mapped = {}
    for interface in found(component, "busInterfaces/busInterface"):
        for entry in found(interface, "abstractionTypes/abstractionType/portMaps/portMap"):
            name = text(entry, "physicalPort/name")
            assert name not in mapped
            mapped[name] = text(interface, "name"), text(entry, "logicalPort/name")
    assert set(mapped) == {port.name for port in ports}  # each port is of one interface
    for port in ports:
        if port.bus:
            assert mapped[port.name] == (port.bus, port.role.upper())


def test_files_of_the_component_are_there(component, folder):
    names = [text(file, "name") for file in found(component, "fileSets/fileSet/file")]
    assert names and all((folder / name).is_file() for name in names)


def test_the_instance_fits(folder, tmp_path):
    require(command, "iverilog")

    def said(body):
        around = tmp_path / "around.v"
        around.write_text(f"module around;\n{body}\nendmodule\n")
        done = subprocess.run(["iverilog", "-t", "null", "-g2005", "-Wall", "-Wno-timescale", "-s",
                               "around", str(around), str(folder / "left.v")],
                              capture_output=True, text=True)
        return done.returncode, done.stderr

    body = (folder / "left_instance.v").read_text()
    assert said(body) == (0, "")
    wrong = body.replace(".m_axi_gmem_rid(", ".m_axi_gmem_id(")
    assert said(wrong)[0] != 0
    assert instance(design(CONFIG, "left", "left_")) == body


@pytest.mark.parametrize("compiler", [["-x", "c", "-std=c99"], ["-x", "c++", "-std=c++11"]])
def test_the_driver_is_plain_c(compiler, folder, tmp_path):
    source = tmp_path / "main.c"
    source.write_text('''\
#include "left_driver.h"
#include "left_driver.h"
int main(void) {
  struct left_device device = {left_mmio_read, left_mmio_write, 0, 0, 0, 0};
  uint32_t registers[1024] = {0};
  device.context = registers;
  registers[LEFT_STATUS_OFFSET / 4] = LEFT_STATUS_BUSY_MASK;
  if (left_identify(&device) != LEFT_OTHER_BUILD || left_start(&device, 0, 0, 0) != LEFT_BUSY)
    return 1;
  if (left_wait(&device, 3, 0, 0) != LEFT_TIMEOUT) return 2;
  registers[LEFT_STATUS_OFFSET / 4] = LEFT_STATUS_BUS_STUCK_MASK;
  return left_run(&device, 0, 0, 0, 0) == LEFT_STUCK ? 0 : 3;
}
''')
    program = tmp_path / "main"
    subprocess.run(["g++", *compiler, "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wshadow",
                    "-Wconversion", f"-I{folder}", source, "-o", program], check=True)
    assert subprocess.run([program]).returncode == 0


def fusesoc(target, cores, place, tools=None):
    """``tools``: a folder that comes first on the path."""
    found = [str(tools or verilator_shim()), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(found)}
    return subprocess.run(
        [sys.executable, "-m", "fusesoc.main", "--cores-root", str(cores), "run",
         f"--target={target}", "ottava:accelerator:left"], cwd=place, env=environment,
        capture_output=True, text=True)


def test_fusesoc_simulates_it(folder, tmp_path):
    require(command, "iverilog", "vvp")
    done = fusesoc("sim", folder, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"left: copied 63 bytes in \d+ cycles, 2048 bytes compared, 0 differ",
                     done.stdout + done.stderr)


@pytest.mark.parametrize("flags", [
    "--control-clock --clock-enable --reset async --power-up unknown --address-bits 36",
    pytest.param("--clock-enable --address-bits 32", marks=pytest.mark.slow)])
def test_the_bench_of_other_surroundings(flags, tmp_path):
    require(command, "iverilog", "vvp")
    made, program = tmp_path / "package", tmp_path / "bench"
    assert main([*FLAGS, *flags.split(), "-o", str(made)]) == 0
    root = ElementTree.parse(made / "left.xml").getroot()
    parameters = {text(one, "name"): text(one, "value")
                  for one in found(root, "parameters/parameter")}
    assert parameters["clock_enable"] == "True"
    assert parameters["address_bits"] == flags.split()[-1]
    subprocess.run(["iverilog", "-g2012", "-s", "left_tb", "-o", program, made / "left.v",
                    made / "left_tb.sv"], check=True)
    done = subprocess.run(["vvp", program], capture_output=True, text=True)
    assert done.returncode == 0 and "2048 bytes compared, 0 differ" in done.stdout
    clocks = re.findall(r"^create_clock -name (\w+)", (made / "left.sdc").read_text(), re.M)
    script = (made / "left_vivado.tcl").read_text()
    assert all(f"infer_bus_interface {{{clock}}}" in script for clock in clocks)
    assert f"-busif s_axi_ctrl -clock {clocks[-1]} " in script


@pytest.mark.parametrize("fault, message", [
    (lambda text: text.replace("expected[TO + place] = code(place)",
                               "expected[TO + place] = code(place + 1)"),
     "63 of 2048 bytes differ"),
    (lambda _: self_test(design(CONFIG, "left", "left_"), replace(CONFIG, row_depth=64)),
     "register 008 must be ")])
def test_the_bench_sees_what_is_wrong(folder, tmp_path, fault, message):
    require(command, "iverilog", "vvp")
    whole = (folder / "left_tb.sv").read_text()
    bench, program = tmp_path / "left_tb.sv", tmp_path / "bench"
    bench.write_text(fault(whole))
    assert bench.read_text() != whole
    subprocess.run(["iverilog", "-g2012", "-s", "left_tb", "-o", program, folder / "left.v", bench],
                   check=True)
    done = subprocess.run(["vvp", program], capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stdout + done.stderr


@pytest.mark.slow
def test_fusesoc_synthesises_it(folder, tmp_path):
    """By the one Yosys here that knows Tcl, which looks for Debian's ABC."""
    require(command, "yosys-debian")
    (tmp_path / "yosys").symlink_to(installed("yosys-debian"))
    (tmp_path / "berkeley-abc").symlink_to(Path(pyosys.__file__).parent / "yosys-abc")
    done = fusesoc("synth", folder, tmp_path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (netlist,) = tmp_path.rglob("synth-yosys/*.json")
    cells = Counter(cell["type"] for cell in
                    json.loads(netlist.read_text())["modules"]["left"]["cells"].values())
    print(cells.most_common(6))
    assert cells["TRELLIS_FF"] > 10_000 and cells["DP16KD"] > 10 and cells["MULT18X18D"] > 0


def test_fusesoc_lints_it(folder, tmp_path):
    def lint(cores):
        return fusesoc("lint", cores, tmp_path)

    done = lint(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("left.core", "left.v", "left.vlt", "left.h", "left.rdl", "left.sdc",
                 "left_tb.sv"):
        (broken / name).write_text((folder / name).read_text())
    source = broken / "left.v"
    whole = source.read_text()
    source.write_text(whole.replace("output interrupt,", "output [1:0] interrupt,"))
    assert source.read_text() != whole
    assert lint(broken).returncode != 0
