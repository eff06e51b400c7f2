import re
import subprocess
import sys

import pytest

from gen.block import design_block
from gen.cached import generated
from gen.top import build, design, generate, main
from hdl.spec.config import AcceleratorConfig
from synth.yosys import run_yosys

MOST_BYTES = 1_000_000  # of posit8 at 64 columns; the seconds are those of gen.scaling


def command(path, dim):
    """What the command writes for Posit8, in a process of its own."""
    subprocess.run([sys.executable, "-m", "gen.top", "--fmt", "posit8", "--dim", str(dim),
                    "-o", str(path)], check=True)
    return path.read_text()


@pytest.fixture(scope="module")
def designs():
    return {dim: generated(AcceleratorConfig(fmt="posit8", dim=dim)) for dim in (16, 32, 64)}


def test_size_is_small_and_at_most_linear_in_dim(designs):
    size = {dim: len(made.text.encode()) for dim, made in designs.items()}
    print(f"gen.top --fmt posit8: bytes by dim {size}")
    assert size[64] <= MOST_BYTES
    assert size[64] - size[32] < 2.2 * (size[32] - size[16])


def test_every_module_is_defined_once_and_all_are_used(designs):
    made = designs[16]
    names = re.findall(r"^module (\S+?)\(", made.text, re.M)
    assert len(names) == len(set(names)) and "ottava" in names
    assert set(made.counts) == set(names) == set(made.modules)
    assert made.counts["pe_posit8_bf16"] == 256
    assert made.counts["decoder_posit8"] >= 32


def test_leaves_of_one_name_are_one_hardware():
    # Two builds in one design may share leaves, so names must tell the latencies apart.
    leaves, where = {}, {}
    for pe, lane, ways in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
        config = AcceleratorConfig("fp8", dim=4, pe_latency=pe, lane_latency=lane, sum_ways=ways)
        for name, module in build(config).modules.items():
            if name != "ottava":
                assert leaves.setdefault(name, module.rtlil) == module.rtlil, name
                where.setdefault(name, set()).add((pe, lane, ways))
    alone = {place: {name for name, places in where.items() if places == {place}}
             for place in ((2, 1, 1), (1, 2, 1), (1, 1, 2))}
    kinds = {place: {name.split("_")[0] for name in names} for place, names in alone.items()}
    assert kinds[2, 1, 1] == {"pe", "row", "stack"}
    assert kinds[1, 2, 1] == {"lane", "float", "exp", "activation"}
    assert kinds[1, 1, 2] == {"reduce", "float"}


def test_ports_of_the_top(designs):
    ports = {port.name: port for port in designs[16].modules["ottava"].ports}
    assert {"aclk", "aresetn", "interrupt"} == {name for name, port in ports.items()
                                                if not port.bus}
    assert {port.bus for port in ports.values() if port.bus} == {"s_axi_ctrl", "m_axi_gmem"}
    assert all(name == f"{port.bus}_{port.role}" for name, port in ports.items() if port.bus)
    assert (ports["aclk"].role, ports["aresetn"].role) == ("clock", "reset")


def test_text_is_plain_and_names_no_place(designs, tmp_path):
    text = designs[16].text
    assert text.isascii() and "\\" not in text
    assert ".py" not in text and "(* src" not in text and "/home" not in text
    # The command's modules are named after the top, but where that is said already.
    own = design(AcceleratorConfig(fmt="posit8", dim=16), prefix="ottava_").text
    assert own == command(tmp_path / "ottava.v", 16)
    assert set(re.findall(r"^module (?!ottava)(\S+?)\(", text, re.M))
    assert not re.findall(r"^module (?!ottava)(\S+?)\(|ottava_ottava", own, re.M)
    # One word, a large constant, may be longer than a line.
    assert all(len(line) <= 100 or " " not in line.strip() for line in text.splitlines())


def test_builds_of_two_names_fit_one_design(tmp_path):
    texts, names = {}, {}
    for name, sram in (("left", "infer"), ("right", "blackbox")):
        path = tmp_path / f"{name}.v"
        assert main(["--dim", "4", "--name", name, "--sram", sram, "-o", str(path)]) == 0
        texts[name] = path.read_text()
        names[name] = re.findall(r"^ *module (\w+)", texts[name], re.M)
        assert names[name].count(name) == 1 and len(names[name]) > 80
        assert all(found == name or found.startswith(f"{name}_") for found in names[name])
    assert "`ifndef RIGHT_OTTAVA_SRAM_1R1W\n" in texts["right"]
    pins = ".aclk(a), .aresetn(a)"
    source = tmp_path / "soc.v"
    source.write_text(f"module soc(input a);\n  left one({pins});\n  right two({pins});\n"
                      f"endmodule\n{texts['left']}{texts['right']}")
    log = run_yosys([f"read_verilog {source}", "hierarchy -check -top soc", "proc",
                     "check", "ls"])
    macros = {f"{name}_ottava_sram_1r1w" for name in names}  # each has parameters, and no name
    assert {*names["left"], *names["right"]} - macros < set(log.split())


def test_illegal_names_are_refused():
    with pytest.raises(ValueError, match="legal Verilog identifier, not '8va'"):
        generate(AcceleratorConfig(dim=4), "8va")


@pytest.mark.parametrize("name, port", [
    ("decoder", "is_nar"), ("encoder", "result"), ("multiplier", "a_is_zero"), ("exp", "value"),
    ("reciprocal", "value"), ("mac", "psum_i"), ("pe", "psum_i"), ("lane", "function_"),
    ("array", "load_down"), ("vector", "i__payload")])
def test_blocks_are_called_as_asked(name, port):
    made = design_block(name, AcceleratorConfig(fmt="fp8", dim=4))
    clocked = name in ("mac", "pe", "lane", "array", "vector")
    ports = {found.name for found in made.modules[name].ports}
    assert port in ports
    assert ({"clk", "rst"} <= ports) == clocked == made.modules[name].is_clocked
    assert ("// LATENCY" in made.text) == clocked
