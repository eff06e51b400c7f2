"""What the writer says of its text is what Yosys finds in it."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest

from gen import __version__
from gen.block import design_block
from gen.design import Design
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from synth.foreign import foreign


def seen(made):
    """What both readers must agree on, by module."""
    return {name: ([(port.name, port.direction, port.width) for port in module.ports],
                   dict(module.cells), module.memories, module.is_memory)
            for name, module in made.modules.items()}


def agree(made):
    read = foreign(made.text, made.top)
    assert seen(read) == seen(made)
    assert read.counts == made.counts
    # Yosys begins a macro after the lines that let it be replaced.
    assert all(module.text in made.modules[name].text for name, module in read.modules.items())
    ports = sum(len(module.ports) for module in read.modules.values())
    print(f"{made.top}: {len(read.modules)} modules, {ports} ports, "
          f"{sum(read.counts.values())} instances, "
          f"{sum(len(module.memories) for module in read.modules.values())} memories")
    return read


@pytest.mark.parametrize("config, name, prefix, sram", [
    (AcceleratorConfig(dim=4), "ottava", "", "infer"),
    (AcceleratorConfig("fp8", dim=8, acc="exact", bus_bytes=8), "left", "l_", "blackbox")])
def test_an_accelerator_is_what_its_record_says(config, name, prefix, sram):
    made = design(config, name, prefix, sram)
    read = agree(made)
    assert len(read.modules) > 90 and read.counts[f"{prefix}pe_{config.fmt}_{config.acc}"] == \
        config.dim ** 2
    assert sum(len(module.memories) * read.counts[module_name]
               for module_name, module in read.modules.items()) > 6


@pytest.mark.parametrize("block", ["decoder", "mac", "lane", "array", "vector"])
def test_a_block_is_what_its_record_says(block):
    agree(design_block(block, AcceleratorConfig("e4m3", dim=4, acc="exact")))


def test_a_record_that_is_wrong_is_seen():
    made = design_block("mac", AcceleratorConfig())
    read = foreign(made.text, "mac")
    assert seen(made) == seen(read)
    module = made.modules["mac"]
    for wrong in (replace(module, ports=module.ports[1:]),
                  replace(module, cells={**module.cells, "other": 1}),
                  replace(module, ports=(replace(module.ports[0], width=2), *module.ports[1:]))):
        assert seen(Design("mac", {**made.modules, "mac": wrong})) != seen(read)


def test_the_record_as_json():
    config = AcceleratorConfig("fp8", dim=4, pe_latency=2)
    made = design(config, "left", "l_")
    data = json.loads(made.json())
    assert (data["generator"], data["version"], data["top"]) == ("ottava", __version__, "left")
    assert AcceleratorConfig(**data["config"]) == config
    assert int(data["config_hash"], 16) == config.hash
    text = made.text.encode()
    assert data["verilog"] == {"bytes": len(text), "sha256": sha256(text).hexdigest()}
    assert {name: module["count"] for name, module in data["modules"].items()} == made.counts
    ports = {port["name"]: port for port in data["modules"]["left"]["ports"]}
    assert ports["m_axi_gmem_wdata"] == {
        "name": "m_axi_gmem_wdata", "direction": "output", "width": 128, "signed": False,
        "bus": "m_axi_gmem", "role": "wdata"}
    assert ports["aclk"]["role"] == "clock" and ports["interrupt"]["role"] == "interrupt"
    leaf = data["modules"]["l_pe_fp8_bf16_latency2"]["leaf"]
    assert leaf["component"] == "hdl.array.pe.PE" and leaf["latency"] == 2
    assert leaf["parameters"] == {"config": f"{config.hash:#018x}"}
    sizes = {(memory["width"], memory["depth"], memory["macro"])
             for module in data["modules"].values() for memory in module["memories"]}
    assert (32, 1024, "l_ottava_sram_1r1w") in sizes and len(sizes) > 4
    assert data["modules"]["l_ottava_sram_1r1w"]["macro"]


def test_streams_signs_and_latencies_of_blocks():
    vector = design_block("vector", AcceleratorConfig(dim=4))
    ports = {port.name: port for port in vector.modules["vector"].ports}
    assert (ports["i__payload"].bus, ports["i__payload"].role) == ("i", "payload")
    assert (ports["i__valid"].role, ports["i__ready"].role) == ("valid", "ready")
    assert (ports["clk"].role, ports["rst"].role) == ("clock", "reset")
    decoder = design_block("decoder", AcceleratorConfig())
    assert {port.name for port in decoder.modules["decoder"].ports if port.signed} == {"exponent"}
    assert decoder.latency in (0, None)
    for latency in (1, 2):
        made = design_block("mac", AcceleratorConfig(pe_latency=latency))
        assert made.latency == json.loads(made.json())["latency"] == latency


TEXT = """\
module top(input clk, input [2:0] a, output signed [7:0] y);
  ottava_sram_x #(.WIDTH(8), .DEPTH(32)) ram(clk, a, y);
  part one(a[0]); part two(a[1]);
endmodule
(* keep *) module part(a); input a; endmodule
module ottava_sram_x(input clk, input [2:0] a, output reg [WIDTH-1:0] y);
  parameter WIDTH = 4; parameter DEPTH = 8;
  reg [WIDTH-1:0] words [DEPTH-1:0];
  always @(posedge clk) y <= words[a];
endmodule
"""


def test_a_text_of_another_origin():
    read = foreign(TEXT, "top")
    assert read.counts == {"top": 1, "part": 2, "ottava_sram_x": 1}
    assert [port.role for port in read.modules["top"].ports] == ["clock", "data", "data"]
    assert read.modules["top"].ports[2].signed
    assert read.modules["part"].text == "module part(a); input a; endmodule\n"
    assert read.modules["ottava_sram_x"].is_memory
    with pytest.raises(ValueError, match="^top must be a module of the text, not 'absent'$"):
        foreign(TEXT, "absent")
