import re
import resource
import subprocess
import sys

import pytest

from gen.block import generate_block
from gen.top import build, generate
from hdl.spec.config import AcceleratorConfig


def modules_of(text):
    return re.findall(r"^module (\S+?)\(", text, re.M)


def ports_of(text, module):
    body = re.search(rf"^module {module}\(.*?^endmodule", text, re.M | re.S)[0]
    return set(re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\S+);$", body, re.M))


def command(path, dim):
    """What the command writes for Posit8, in a process of its own."""
    subprocess.run([sys.executable, "-m", "gen.top", "--fmt", "posit8", "--dim", str(dim),
                    "-o", str(path)], check=True)
    return path.read_text()


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    written = command(tmp_path_factory.mktemp("top") / "ottava.v", 64)
    return {dim: generate(AcceleratorConfig(fmt="posit8", dim=dim)) for dim in (16, 32)} | {
        64: written}


@pytest.mark.slow  # a bound on time is for a quiet machine, even on the processor's
def test_the_command_is_quick(tmp_path):
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    command(tmp_path / "ottava.v", 64)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime
    print(f"gen.top --fmt posit8 --dim 64: {seconds:.1f} s of processor time")
    assert seconds <= 10


def test_size_is_at_most_linear_in_dim(texts):
    size = {dim: len(text.encode()) for dim, text in texts.items()}
    assert size[64] <= 1 << 20
    assert size[64] - size[32] < 2.2 * (size[32] - size[16])


def test_every_module_is_defined_once_and_all_are_used(texts):
    names = modules_of(texts[16])
    assert len(names) == len(set(names)) and "ottava" in names
    library = build(AcceleratorConfig(fmt="posit8", dim=16))
    counts = library.counts("ottava")
    assert set(counts) == set(names)
    assert counts["pe_posit8_bf16"] == 256
    assert counts["decoder_posit8"] >= 32


def test_leaves_of_one_name_are_one_hardware():
    # Two builds in one design may share leaves, so names must tell the latencies apart.
    leaves, where = {}, {}
    for pe, lane in ((1, 1), (2, 1), (1, 2)):
        config = AcceleratorConfig("fp8", dim=4, pe_latency=pe, lane_latency=lane)
        for name, module in build(config).modules.items():
            if name != "ottava":
                assert leaves.setdefault(name, module.rtlil) == module.rtlil, name
                where.setdefault(name, set()).add((pe, lane))
    alone = {place: {name for name, places in where.items() if places == {place}}
             for place in ((2, 1), (1, 2))}
    assert {name.split("_")[0] for name in alone[2, 1]} == {"pe", "row", "stack"}
    assert {name.split("_")[0] for name in alone[1, 2]} == {"lane", "float", "exp", "activation"}


def test_ports_of_the_top(texts):
    ports = ports_of(texts[16], "ottava")
    assert {"aclk", "aresetn", "interrupt"} <= ports
    others = ports - {"aclk", "aresetn", "interrupt"}
    assert others and all(re.match(r"(s_axi_ctrl|m_axi_gmem)_[a-z]+$", port) for port in others)


def test_text_is_plain_and_names_no_place(texts, tmp_path):
    text = texts[16]
    assert text.isascii()
    assert ".py" not in text and "(* src" not in text and "/home" not in text
    assert text == command(tmp_path / "ottava.v", 16)


def test_name_and_prefix_keep_two_builds_apart():
    small = {"dim": 4}
    one = modules_of(generate(AcceleratorConfig(fmt="posit8", **small), "left", "left_"))
    two = modules_of(generate(AcceleratorConfig(fmt="fp8", **small), "right", "right_"))
    assert one[0] != two[0] and not set(one) & set(two)
    assert all(name.startswith("left") for name in one)


def test_illegal_names_are_refused():
    with pytest.raises(ValueError, match="legal Verilog identifier, not '8va'"):
        generate(AcceleratorConfig(dim=4), "8va")


@pytest.mark.parametrize("name, port", [
    ("decoder", "is_nar"), ("encoder", "result"), ("multiplier", "a_is_zero"), ("exp", "value"),
    ("reciprocal", "value"), ("mac", "psum_i"), ("pe", "psum_i"), ("lane", "function_"),
    ("array", "load_down"), ("vector", "i__payload")])
def test_blocks_are_called_as_asked(name, port):
    text = generate_block(name, AcceleratorConfig(fmt="fp8", dim=4))
    clocked = name in ("mac", "pe", "lane", "array", "vector")
    ports = ports_of(text, name)
    assert port in ports
    assert ({"clk", "rst"} <= ports) == clocked
    assert ("// LATENCY" in text) == clocked
