"""The ports of the top and of the blocks have the names that others rely on."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from gen.amaranth_private import mark_used
from gen.block import flat_block
from gen.flat import Flat, flat_accelerator
from gen.leaves import component_ports
from hdl.spec.config import AcceleratorConfig

OPERAND = ("sign", "exponent", "significand", "is_zero", "is_nar")
A_AND_B = {f"{prefix}_{name}" for prefix in "ab" for name in OPERAND}
LANE = {"enable", "data", "y", "multiply_on", "multiply_y", "multiply_word", "multiply_self",
        "add_on", "add_y", "add_word", "subtract", "function_", "masked", "scale_on", "scale_y",
        "scale_word", "scale_self", "relu"}
ARRAY = {"x", "x_e5m2", "swap", "w", "w_e5m2", "load_down", "load_right"}
VECTOR = {"instruction", "imm0", "imm1", "inverse_n", "epsilon", "row_maxima", "maximum",
          "i__payload", "i__valid", "o__ready"}
PE = {"x_i", "swap_i", "down_i", "right_i", "w_above", "w_left", "psum_i"}
BLOCKS = {
    "decoder": ({"code"}, set(OPERAND)),
    "encoder": ({"value"}, {"result"}),
    "multiplier": (A_AND_B, set(OPERAND)),
    "mac": (A_AND_B | {"psum_i"}, {"psum_o"}),
    "pe": (PE, {"x_o", "swap_o", "down_o", "right_o", "w_o", "psum_o"}),
    "lane": (LANE, {"o"}),
    "array": (ARRAY, {"o"}),
    "vector": (VECTOR, {"i__ready", "o__payload", "o__valid", "idle", "beat", "stall"}),
    "exp": ({"value"}, {"result"}),
    "reciprocal": ({"value"}, {"result"}),
    "activation": ({"value", "function_"}, {"result"}),
    "inverse_sqrt": ({"value"}, {"result"}),
}
# Bits, those of which the format decides aside; a signed exponent is two's complement.
POSIT8 = {"sign": 1, "exponent": 5, "significand": 5, "is_zero": 1, "is_nar": 1}


def directions(block):
    mark_used(block)
    mark_used(block.component)
    found = {In: set(), Out: set()}
    for name, (_, flow) in component_ports(block).items():
        found[flow].add(name)
    return found[In], found[Out]


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_keep_their_ports(name):
    assert directions(flat_block(name, AcceleratorConfig("posit8"))) == BLOCKS[name]


def test_an_operand_keeps_its_fields():
    block = flat_block("decoder", AcceleratorConfig("posit8"))
    directions(block)
    ports = component_ports(block)
    assert {name: len(ports[name][0]) for name in POSIT8} == POSIT8
    assert ports["exponent"][0].shape().signed


def test_the_top_is_axi_and_an_interrupt():
    given, taken = directions(flat_accelerator(AcceleratorConfig("posit8")))
    lite = {"awaddr", "awprot", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr",
            "arprot", "arvalid", "rready"}
    address = {"id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "valid"}
    assert given == {"aclk", "aresetn", *(f"s_axi_ctrl_{name}" for name in lite), *(
        f"m_axi_gmem_{name}" for name in ("arready", "rid", "rdata", "rresp", "rlast", "rvalid",
                                          "awready", "wready", "bid", "bresp", "bvalid"))}
    assert taken == {"interrupt", *(f"s_axi_ctrl_{name}" for name in (
        "awready", "wready", "bresp", "bvalid", "arready", "rdata", "rresp", "rvalid")), *(
        f"m_axi_gmem_{name}" for name in (
            *(f"{channel}{name}" for channel in ("ar", "aw") for name in address),
            "rready", "wdata", "wstrb", "wlast", "wvalid", "bready"))}


def test_two_ports_of_one_name_are_refused():
    class Clash(wiring.Component):
        record: In(data.StructLayout({"x": 1}))
        x: In(1)

        def elaborate(self, platform):
            return Module()

    clash = Clash()
    mark_used(clash)
    with pytest.raises(ValueError, match="two ports are called 'x'"):
        mark_used(Flat(clash, {"record": ""}))
