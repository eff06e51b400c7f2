"""The map in SystemRDL: other people's tools read it, and what they make of it says the same as
our own header, table and page."""

import json
import logging
import re
import runpy
from io import StringIO
from xml.etree import ElementTree

import pytest
from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter
from peakrdl_ipxact import IPXACTExporter
from systemrdl import RDLCompiler, RDLWalker
from systemrdl.messages import RDLCompileError
from systemrdl.node import FieldNode, RegNode
from systemrdl.rdltypes import AccessType, OnWriteType

from gen.header import c_header
from gen.identification import identification
from gen.package.python_driver import build_of, python_driver
from gen.regmap import register_map
from gen.systemrdl import register_fields, system_rdl
from hdl.spec.commands import ErrorCause, Feature
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS

CONFIG = AcceleratorConfig("fp8", dim=8, functions="training")
SPACE = "{http://www.accellera.org/XMLSchema/IPXACT/1685-2014}"
IP_XACT = {"ro": "read-only", "rw": "read-write", "w1s": "write-only", "w1c": "read-write"}
ACCESS = {(AccessType.r, None): "ro", (AccessType.rw, None): "rw", (AccessType.w, None): "w1s",
          (AccessType.rw, OnWriteType.woclr): "w1c"}


def compiled(folder, text):
    source = folder / "map.rdl"
    source.write_text(text)
    compiler = RDLCompiler()
    compiler.compile_file(str(source))
    return compiler.elaborate()


@pytest.fixture
def root(tmp_path):
    return compiled(tmp_path, system_rdl(CONFIG))


def specified(named_bits=True):
    """(register, field): offset, lowest bit, bits, access, as ``hdl.spec`` has them."""
    return {(register.name, field.name): (register.offset, field.low, field.bits, field.access)
            for register in REGISTERS
            for field in (register_fields(register) if named_bits else register.fields)}


def test_the_compiler_reads_what_is_specified(root):
    found, resets = {}, {}
    for register in root.top.children():
        assert isinstance(register, RegNode) and register.get_property("regwidth") == 32
        for field in register.children():
            assert isinstance(field, FieldNode)
            access = ACCESS[field.get_property("sw"), field.get_property("onwrite")]
            place = register.inst_name, field.inst_name
            found[place] = (register.absolute_address, field.low, field.width, access)
            assert (access == "w1s") == field.get_property("singlepulse")
            resets[place] = field.get_property("reset")
    assert found == specified()
    known = identification(CONFIG)
    assert {place: value for place, value in resets.items() if place in known} == {
        place: value for place, value in known.items() if place in found}
    writable = {resets[place] for place, (*_, access) in found.items() if access != "ro"}
    assert writable == {0}
    print(f"{len(found)} fields of {len(REGISTERS)} registers, {len(known)} constants")


def test_a_field_in_another_place_is_found(tmp_path):
    # The control: the comparison sees one bit and one access.
    text = system_rdl(CONFIG)
    moved = text.replace("} SOFT_RESET[2:2]", "} SOFT_RESET[3:3]")
    assert moved != text
    (register,) = [node for node in compiled(tmp_path, moved).top.children()
                   if node.inst_name == "CONTROL"]
    assert {field.inst_name: field.low for field in register.children()}["SOFT_RESET"] == 3
    overlapping = text.replace("} STOP[1:1]", "} STOP[2:2]")
    with pytest.raises(RDLCompileError):
        compiled(tmp_path, overlapping)


def test_c_of_both_has_the_same_masks(root, tmp_path):
    path = tmp_path / "ottava_regs.h"
    CHeaderExporter().export(root.top, str(path))
    theirs = {name: int(value, 0) for name, value in re.findall(
        r"^#define (OTTAVA__\w+_(?:bm|bp)) (0x[0-9a-f]+|\d+)$", path.read_text(), re.MULTILINE)}
    ours = {name: int(value, 16) if value.startswith("0x") else int(value)
            for name, value in re.findall(
                r"^#define OTTAVA_(\w+) (?:UINT32_C\()?(0x[0-9A-F]+|\d+)\)?$", c_header(CONFIG),
                re.MULTILINE)}
    compared = 0
    for (register, field), (offset, low, bits, _) in specified().items():
        mask, shift = (theirs[f"OTTAVA__{register}__{field}_{end}"] for end in ("bm", "bp"))
        assert (mask, shift) == (((1 << bits) - 1) << low, low)
        assert ours[f"{register}_OFFSET"] == offset
        if register == "ERROR":
            assert ours[f"CAUSE_{field}"] == mask
        elif register == "FEATURES":
            assert ours[f"FEATURE_{field}"] == mask
        elif bits < 32:
            assert (ours[f"{register}_{field}_MASK"], ours[f"{register}_{field}_SHIFT"]) == (
                mask, shift)
        compared += 1
    assert compared > len(REGISTERS) + len(ErrorCause) + len(Feature) - 2


def test_ip_xact_has_the_same_map(root, tmp_path):
    path = tmp_path / "ottava.xml"
    IPXACTExporter().export(root.top, str(path))
    found = {}
    for register in ElementTree.parse(path).iter(f"{SPACE}register"):
        offset = int(register.findtext(f"{SPACE}addressOffset").replace("'h", ""), 16)
        for field in register.iter(f"{SPACE}field"):
            found[register.findtext(f"{SPACE}name"), field.findtext(f"{SPACE}name")] = (
                offset, int(field.findtext(f"{SPACE}bitOffset")),
                int(field.findtext(f"{SPACE}bitWidth")), field.findtext(f"{SPACE}access"))
    assert found == {place: (offset, low, bits, IP_XACT[access])
                     for place, (offset, low, bits, access) in specified().items()}


def test_pages_have_the_same_map(root, tmp_path):
    HTMLExporter().export(root.top, str(tmp_path / "html"))
    assert (tmp_path / "html/index.html").stat().st_size > 1000
    nodes = json.loads((tmp_path / "html/data/ral-data-0.json").read_text())
    found = {(node["name"], field["name"]): (int(node["offset"], 16), field["lsb"],
                                             field["msb"] - field["lsb"] + 1, field["reset"])
             for node in nodes for field in node.get("fields", ())}
    known = identification(CONFIG)
    for place, (offset, low, bits, _) in specified().items():
        assert found[place][:3] == (offset, low, bits)
        if place in known:
            assert int(found[place][3], 16) == known[place]
    assert found.keys() == specified().keys()


def test_registers_of_cocotb_have_the_same_masks(root, monkeypatch, capsys):
    # basicConfig, when it is imported, would make the root logger print.
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    from peakrdl_cocotb_ralgen.ralgen import RALGEN

    listener = RALGEN(StringIO())
    RDLWalker(unroll=True).walk(root, listener)
    capsys.readouterr()
    found = {register["name"]: register for register in listener.registers.values()}
    assert found.keys() == {register.name for register in REGISTERS}
    known, fields = identification(CONFIG), 0
    for register in REGISTERS:
        own = [((register.name, field.name), ((1 << field.bits) - 1) << field.low, field)
               for field in register_fields(register)]
        wanted = found[register.name]
        assert wanted["address"] == register.offset
        assert wanted["write_mask"] == sum(m for _, m, f in own if f.access != "ro")
        assert wanted["read_mask"] == sum(m for _, m, f in own if f.access != "w1s")
        assert wanted["reset_mask"] == sum(m for place, m, f in own
                                           if f.access != "ro" or place in known)
        assert wanted["reset_value"] == sum(known.get(place, 0) << f.low for place, _, f in own)
        assert [(signal["low"], signal["high"]) for signal in wanted["signals"]] == [
            (field.low, field.low + field.bits - 1) for _, _, field in own]
        fields += len(own)
    assert fields == len(specified())


def test_python_has_the_same_map(tmp_path):
    source = tmp_path / "some_driver.py"
    source.write_text(python_driver(CONFIG, "some"))
    made = runpy.run_path(str(source))["BUILD"]
    assert vars(made) == vars(build_of(CONFIG, "some"))
    assert {(register, field): (made.registers[register], *place)
            for register, fields in made.fields.items() for field, place in fields.items()} == {
        place: row[:3] for place, row in specified(False).items()}
    assert {name: 1 << bit for bit, (name, _) in made.causes.items()} == {
        cause.name: 1 << cause for cause in ErrorCause}
    known = identification(CONFIG)
    for register, value in made.known.items():
        fields = {place: bits for place, bits in known.items() if place[0] == register}
        assert fields and value == sum(
            bits << specified(False)[place][1] for place, bits in fields.items())
    table = json.loads(register_map("json", CONFIG))["program"]
    assert (made.magic, made.header, made.command) == (
        table["magic"], table["header"]["bytes"], table["command"]["bytes"])
    assert made.places == {field["name"]: field["offset"] // 8
                           for field in table["header"]["fields"]}
    assert made.addresses == tuple(field["offset"] // 8 for field in table["command"]["fields"]
                                   if field["name"].endswith("_address"))
    assert made.end == table["values"]["Opcode"]["END"]


def test_json_has_the_same_map_and_the_build():
    table = json.loads(register_map("json", CONFIG))
    assert {(register["name"], field["name"]): (register["offset"], field["low"], field["bits"],
                                                field["access"])
            for register in table["registers"] for field in register["fields"]} == specified(False)
    assert AcceleratorConfig(**table["build"]) == CONFIG
    values = {(register["name"], field["name"]): field["value"] for register in table["registers"]
              for field in register["fields"] if "value" in field}
    assert values == {place: value for place, value in identification(CONFIG).items()
                      if place in specified(False)}


def test_a_word_of_the_language_may_be_the_name(tmp_path):
    assert compiled(tmp_path, system_rdl(CONFIG, "field")).top.inst_name == "field"


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ValueError, match="name must be a legal SystemRDL identifier, not '2x'"):
        register_map("rdl", CONFIG, "2x")
