"""Every port of the generated top is constrained once, by the right command."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from gen.sdc import constraints
from gen.top import design
from hdl.spec.config import AcceleratorConfig

_DELAY = re.compile(r"set_(input|output)_delay -clock aclk -(max|min) ([\d.]+) "
                    r"\[get_ports \{([^}]*)\}\]")


def delays(text):
    """(direction, limit, port) to how often and to what it is set; fails on any other command."""
    found, values = Counter(), {}
    for direction, limit, value, ports in _DELAY.findall(text):
        for port in ports.split():
            found[direction, limit, port] += 1
            values[direction, limit, port] = float(value)
    rest = [line for line in _DELAY.sub("", text).splitlines() if line]
    assert all(line.startswith(("#", "create_clock ")) for line in rest), rest
    return found, values


@pytest.mark.parametrize("bus_bytes", [4, 16])
def test_every_port_is_constrained_exactly_once(bus_bytes):
    config = AcceleratorConfig(fmt="e4m3", dim=4, bus_bytes=bus_bytes)
    found, values = delays(constraints(config, period_ns=8))
    made = design(config)
    ports = {(port.direction, port.name + ("[*]" if port.width > 1 else ""))
             for port in made.modules[made.top].ports}
    assert ("input", "aclk") in ports and ("output", "m_axi_gmem_wdata[*]") in ports
    expected = {(direction, limit, port) for direction, port in ports - {("input", "aclk")}
                for limit in ("max", "min")}
    assert found == Counter(expected) and len(expected) > 100
    assert {value for (_, limit, _), value in values.items() if limit == "max"} == {2.4}
    assert {value for (_, limit, _), value in values.items() if limit == "min"} == {0}


def test_clock_has_the_period_asked_for():
    text = constraints(AcceleratorConfig(dim=4), "left", 2.5)
    assert text.count("create_clock") == 1 and text.isascii() and "left" in text
    assert "create_clock -name aclk -period 2.500 [get_ports {aclk}]\n" in text


@pytest.mark.parametrize("arguments, words", [
    (["--period-ns", "0"], ["period-ns must be a number above 0, not 0.0"]),
    (["--period-ns", "nan"], ["--period-ns must be a number", "'nan'"]),
    (["--period-ns", "fast"], ["--period-ns", "'fast'"]),
    (["--regmap", "h"], ["--sdc", "--regmap"])])
def test_bad_arguments_give_one_line_and_code_2(arguments, words):
    done = subprocess.run([sys.executable, "-m", "gen.top", "--sdc", *arguments],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert all(word in done.stderr for word in words), done.stderr
