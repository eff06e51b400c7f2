"""Texts for other surroundings: resets, clocks, registers at power-up, addresses, constraints."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from gen.cached import generated
from gen.package.ip_xact import NAMESPACE, component
from gen.sdc import constraints
from gen.top import main
from gen.verilog.survey import FLIP_FLOPS
from hdl.spec.config import AcceleratorConfig
from hdl.spec.options import options_of
from hdl.spec.surroundings import Surroundings
from support.require import require
from synth.lint import TOOLS, lint_file

CONFIG = AcceleratorConfig("fp8", dim=4)
EVERY = Surroundings(reset="async", clock_enable=True, control_clock=True, power_up="unknown",
                     address_bits=40, outstanding=3, burst=4, target="fpga")


def ports(**values):
    made = generated(CONFIG, surroundings=Surroundings(**values))
    return {port.name: port for port in made.modules[made.top].ports}


def test_what_is_not_asked_for_is_as_ever():
    assert Surroundings().usual and not EVERY.usual
    assert generated(CONFIG, surroundings=Surroundings()).text == generated(CONFIG).text


def test_each_choice_has_its_ports():
    usual, every = ports(), ports(**EVERY.as_dict())
    assert {name: every[name].role for name in set(every) - set(usual)} == {
        "aclken": "enable", "s_axi_ctrl_aclk": "clock", "s_axi_ctrl_aresetn": "reset"}
    assert not set(usual) - set(every)
    assert {name for name in usual if every[name] != usual[name]} == {
        "m_axi_gmem_araddr", "m_axi_gmem_awaddr"}
    assert every["m_axi_gmem_awaddr"].width == 40


@pytest.mark.parametrize("bus, asked, most", [(4, 32, 16), (16, 16, 16), (16, 5, 5), (32, 32, 32),
                                              (64, 20, 20)])
def test_bursts_under_way_are_those_of_the_bus(bus, asked, most):
    config, around = replace(CONFIG, bus_bytes=bus), Surroundings(outstanding=asked)
    design = generated(config, surroundings=around)
    assert around.on(bus) == Surroundings(outstanding=most)
    assert json.loads(design.json())["surroundings"]["outstanding"] == most
    own, = ElementTree.fromstring(component(design, config, [])).findall(
        f".//{{{NAMESPACE}}}parameter[@parameterId='outstanding']/{{{NAMESPACE}}}value")
    assert own.text == str(most)


def test_registers_are_reset_without_a_clock():
    text = generated(CONFIG, surroundings=Surroundings(reset="async")).text
    assert " or posedge " not in generated(CONFIG).text
    blocks = re.findall(r"always @\((posedge \w+ or posedge (\w+))\) begin\n    if \((\w+)\) begin",
                        text)
    assert len(blocks) > 40 and all(edge == test for _, edge, test in blocks)
    # No register that a reset touches is left to the clock alone.
    for block in re.findall(r"always @\(posedge \w+\) begin\n(.*?)\n  end\n", text, re.S):
        assert not re.search(r"\b(core_)?rst\b", block)
    assert "$adff" in FLIP_FLOPS


def test_registers_without_a_value_at_power_up():
    text = generated(CONFIG, surroundings=Surroundings(power_up="unknown")).text
    declared = r"^ +(?:output )?reg [^;]*=[^;]*;|initial|wake"
    assert not re.search(declared, text, re.M)
    assert re.search(declared, generated(CONFIG).text, re.M)


def test_every_block_and_memory_waits_for_the_enable():
    made = generated(CONFIG, surroundings=Surroundings(clock_enable=True))
    for module in made.modules.values():
        enabled = {port.name for port in module.ports if port.role == "enable"}
        if not module.macro:
            assert bool(enabled) == module.is_clocked, module.name
        body = re.findall(r"always @\(posedge \w+\) begin\n(.*?)\n  end\n", module.text, re.S)
        for line in "\n".join(body).splitlines() if not module.macro else ():
            if re.match(r"    \S", line) and line.strip() != "end":
                assert re.match(r"    (if \((aclken|clken|~aresetn|\w*rst)\)|else if)", line), line


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if "modules" not in tool])
@pytest.mark.parametrize("around", [
    EVERY, pytest.param(Surroundings(clock_enable=True), marks=pytest.mark.slow)],
    ids=["every", "enable"])
def test_tools_find_no_fault(tool, around, tmp_path):
    path = tmp_path / "ottava.v"
    path.write_text(generated(CONFIG, surroundings=around).text)
    require(lint_file, tool, path, "ottava")


def test_constraints_of_two_clocks():
    text = constraints(CONFIG, "left", 4, EVERY, 25)
    assert re.findall(r"^create_clock .*", text, re.M) == [
        "create_clock -name aclk -period 4.000 [get_ports {aclk}]",
        "create_clock -name s_axi_ctrl_aclk -period 25.000 [get_ports {s_axi_ctrl_aclk}]"]
    found = {}
    for direction, clock, value, names in re.findall(
            r"set_(input|output)_delay -clock (\w+) -max ([\d.]+) \[get_ports \{([^}]*)\}", text):
        for name in names.split():
            assert name not in found
            found[name] = direction, clock, float(value)
    every = {name + ("[*]" if port.width > 1 else ""): port
             for name, port in ports(**EVERY.as_dict()).items() if port.role != "clock"}
    assert found.keys() == every.keys()
    for name, (direction, clock, value) in found.items():
        controls = name.startswith("s_axi_ctrl_") or name == "interrupt"
        assert (clock, value) == (("s_axi_ctrl_aclk", 7.5) if controls else ("aclk", 1.2))
        assert direction == every[name].direction
    between = re.findall(r"set_(max_delay [\d.]+|false_path -hold) -from \[get_clocks (\w+)\] -to "
                         r"\[get_clocks (\w+)\]", text)
    assert sorted(between) == [
        ("false_path -hold", "aclk", "s_axi_ctrl_aclk"),
        ("false_path -hold", "s_axi_ctrl_aclk", "aclk"),
        ("max_delay 25.000", "aclk", "s_axi_ctrl_aclk"),
        ("max_delay 4.000", "s_axi_ctrl_aclk", "aclk")]
    assert "get_clocks" not in constraints(CONFIG, surroundings=Surroundings(reset="async"))


@pytest.mark.parametrize("arguments, words", [
    (["--reset", "maybe"], ["reset must be one of sync, async, not 'maybe'"]),
    (["--power-up", "zero"], ["power_up must be one of reset, unknown, not 'zero'"]),
    (["--address-bits", "31"], ["address_bits must be an integer from 32 to 64, not 31"]),
    (["--outstanding", "0"], ["outstanding must be an integer from 1 to 32, not 0"]),
    (["--outstanding", "many"], ["outstanding must be an integer from 1 to 32, not 'many'"]),
    (["--control-period-ns", "0", "--sdc"], ["control-period-ns must be a number above 0"])])
def test_bad_arguments_give_one_line_and_code_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--dim", "4", *arguments])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1), said.err
    assert all(word in said.err for word in words), said.err


@pytest.mark.parametrize("values", [{"clock_enable": 1}, {"control_clock": "yes"},
                                    {"address_bits": True}, {"reset": None}])
def test_values_that_cannot_be(values):
    with pytest.raises(ValueError, match=f"^{next(iter(values))} must be .*, not "):
        Surroundings(**values)


def test_every_value_is_told():
    assert all(option.text and option.usual for option in options_of(Surroundings))
    made = generated(CONFIG, surroundings=EVERY)
    assert all(f"{name}={value}" in made.header.replace("\n//", "")
               for name, value in EVERY.as_dict().items())
