"""Where tensors lie: no two share a byte, each holds what was put there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.program.builder import ProgramBuilder, read_codes
from compiler.program.tensor import Tensor, overlap
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, POSIT8
from support.properties import examples

CONFIGS = {fmt: AcceleratorConfig(fmt, dim=4) for fmt in ("posit8", "fp8", "bf16")}
BASE = 0x2_0000_0000


@st.composite
def requests(draw, config):
    """What may be asked of ``Placement``: shape, encoding, stride, align, skew."""
    encoding = draw(st.sampled_from([*(e.name for e in config.format.encodings), "bf16"]))
    unit = 2 if encoding == "bf16" else 1
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    return {"shape": (rows, columns), "encoding": encoding,
            "stride": unit * (columns + draw(st.integers(0, 5))),
            "align": draw(st.sampled_from([unit, 2, 16, 64])),
            "skew": unit * draw(st.integers(0, 20)), "seed": draw(st.integers(0, 255))}


@pytest.mark.parametrize("fmt", CONFIGS)
def test_every_tensor_keeps_what_was_put_there(fmt):
    config, checked = CONFIGS[fmt], []

    @examples(100, fmt)
    @given(st.lists(requests(config), min_size=1, max_size=8))
    def run(asked):
        builder, held = ProgramBuilder(config, BASE), []
        for options in asked:
            options = dict(options)
            shape, encoding = options.pop("shape"), options.pop("encoding")
            rng, bits = np.random.default_rng(options.pop("seed")), builder.encoding(encoding).bits
            codes = rng.integers(0, 1 << bits, shape)
            held.append((builder.codes(codes, encoding, **options), codes))
            assert (held[-1][0].address - options["skew"]) % options["align"] == 0
        memory, address = builder.build(seed=1)
        owners = np.zeros(memory.size, np.uint8)
        for tensor, codes in held:
            assert np.array_equal(read_codes(memory, tensor, BASE), codes)
            tensor.window(owners, BASE)[:] += 1
            assert tensor.address + tensor.span <= address
        assert owners.max() == 1
        checked.append(len(held))

    run()
    print(f"{fmt}: {sum(checked)} tensors")
    assert len(checked) >= 100


@st.composite
def tensors(draw, strides):
    columns = draw(st.integers(1, 6))
    encoding = draw(st.sampled_from([POSIT8, BF16_ENCODING]))
    unit = encoding.bits // 8
    stride = draw(st.sampled_from([stride for stride in strides if stride >= columns * unit]))
    return Tensor("t", unit * draw(st.integers(0, 40)), draw(st.integers(1, 6)), columns, encoding,
                  stride)


def owned(tensor):
    """Addresses of the bytes of ``tensor``, one by one."""
    return {tensor.address + row * tensor.stride + byte for row in range(tensor.rows)
            for byte in range(tensor.row_bytes)}


@examples(400)
@given(tensors([12, 14, 20, 32]), tensors([12, 14, 20, 32]))
def test_tensors_that_share_a_byte_overlap(first, second):
    shared = bool(owned(first) & owned(second))
    assert overlap(first, second) == overlap(second, first)
    assert not shared or overlap(first, second)
    one_stride = first.stride == second.stride or 1 in (first.rows, second.rows)
    if one_stride:  # exact then
        assert overlap(first, second) == shared


@examples(100)
@given(tensors([16]), st.data())
def test_a_block_is_inside_its_tensor_and_blocks_of_other_columns_do_not_meet(tensor, data):
    rows, columns = data.draw(st.integers(1, tensor.rows)), data.draw(
        st.integers(1, tensor.columns))
    row, column = data.draw(st.integers(0, tensor.rows - rows)), data.draw(
        st.integers(0, tensor.columns - columns))
    block = tensor.block(row, column, rows, columns)
    assert owned(block) <= owned(tensor)
    for start, width in ((0, column), (column + columns, tensor.columns - column - columns)):
        if width:
            assert not overlap(block, tensor.block(0, start, tensor.rows, width))
