"""Netlists whose area is quoted equal the Verilog that they were mapped from."""

import pytest

from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from support.require import require
from synth.equivalence import YosysError, prove_mapping
from synth.flow import Flow
from synth.library import LIBRARIES, library_named

SWAP_AN_XOR = {"ottava": "chtype -set XNOR2 t:XOR2 %R1",
               "osu018": "chtype -set XNOR2X1 t:XOR2X1 %R1"}


@pytest.fixture(params=LIBRARIES)
def flow(request):
    return Flow(require(library_named, request.param))


def prove(flow, block, fmt, softmax, spoil=None):
    config = AcceleratorConfig(fmt=fmt, softmax=softmax)
    prove_mapping(flow, design_block(block, config), spoil)


@pytest.mark.parametrize("block, fmt, softmax", [
    *((block, fmt, "pwl") for block in ("decoder", "encoder", "multiplier")
      for fmt in ("posit8", "fp8")),
    *((block, "posit8", softmax) for block in ("exp", "reciprocal")
      for softmax in ("pwl", "approx_shifted", "linear")),
    pytest.param("mac", "posit8", "pwl", marks=pytest.mark.slow),
    pytest.param("mac", "fp8", "pwl", marks=pytest.mark.slow),
])
def test_netlist_equals_verilog(flow, block, fmt, softmax):
    prove(flow, block, fmt, softmax)


@pytest.mark.parametrize("block", ["multiplier", "mac"])
def test_one_wrong_cell_is_found(flow, block):
    with pytest.raises(YosysError, match="did fail|unproven"):
        prove(flow, block, "fp8", "pwl", SWAP_AN_XOR[flow.library.name])
