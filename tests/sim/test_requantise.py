"""Codes of products in 8 bits against QLinearMatMul of onnxruntime, on lanes of both kinds."""

from functools import cache

import numpy as np
import pytest

from compiler.lowering.lists import product as by_column
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from hdl.spec.commands import Destination, Operand
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine
from support.onnx_files import FOLDER

CONFIG = AcceleratorConfig("int8", dim=16)
FIXED = AcceleratorConfig("int8", dim=16, lane_kind="fixed")


@cache
def vectors():
    with np.load(FOLDER / "products.npz") as kept:
        return dict(kept)


def program(config, scale, second=None):
    """Codes of a · b, by one scale or a row of them; ``second``: then by another."""
    given, builder = vectors(), ProgramBuilder(config, BASE)
    a, b = (builder.constant(given[name].astype(float), "int8") for name in "ab")
    out = builder.empty(a.shape[0], b.shape[1], "int8")
    epilogue = (Epilogue(scale=float(scale[0])) if len(scale) == 1 else
                by_column(builder.constant(scale[None], "bf16")))
    if second is not None and len(scale) == 1:
        epilogue = Epilogue(scale=float(scale[0]), imm1=float(second[0]))
    elif second is not None:
        pair = builder.constant(np.stack([scale, second]), "bf16")
        epilogue = Epilogue(y1=pair, instructions=(
            Instruction(multiply=Operand.Y, y=1, destination=Destination.BUFFER),
            Instruction(multiply=Operand.Y, y=1, y_second=True, destination=Destination.MEMORY)))
    builder.gemm(a, b, out, epilogue)
    memory, address = builder.build(seed=1, spare=64)
    return Case(memory, address, BASE, (out,), "product")


def on_model(scale, config=CONFIG, second=None):
    case = program(config, scale, second)
    memory = case.memory.copy()
    assert Machine(config).run(memory, case.address, BASE).error is None
    return read(memory, case.outputs[0], BASE)


def differing(found, wanted):
    """Share of codes that are not the same, and by how much at most."""
    off = abs(found - wanted)
    return np.count_nonzero(off) / off.size, off.max()


def bf16(values):
    """The nearest with 8 significant bits, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1) >> 16 << 16).astype(np.uint32)).view(np.float32)


@pytest.mark.parametrize("kind", ["tensor", "column"])
def test_codes_are_off_by_one_at_most(kind):
    """Of a sum, a scale and their product each has 8 significant bits, a code up to 7."""
    given, shares, compared = vectors(), [], 0
    for scale, results in zip(given[f"{kind} scales"], given[f"{kind} results"], strict=True):
        share, most = differing(on_model(scale), results.astype(float))
        assert most <= 1
        shares.append(share)
        compared += results.size
    print(f"{kind}: {compared} codes, {np.mean(shares):.1%} off by one, at most "
          f"{max(shares):.1%} by one scale")
    assert compared == 8 * 32 * 64 and 0 < np.mean(shares) <= 0.10


def test_onnxruntime_rounds_the_exact_product():
    """So that what is off is of BF16: sums by numpy's integers, one rounding, ties to even."""
    given = vectors()
    sums = given["a"].astype(np.int64) @ given["b"]
    for kind in ("tensor", "column"):
        exact = sums * given[f"{kind} scales"][:, None, :]
        down, nearest = (np.clip(of(exact), -128, 127) for of in (np.floor, np.rint))
        assert np.array_equal(nearest, given[f"{kind} results"]) and exact.size == 16384
        assert np.count_nonzero(down != given[f"{kind} results"]) > 1000  # another rounding


def test_what_lanes_round_is_what_is_off():
    """The same three roundings by hand give every code."""
    given = vectors()
    sums = bf16(given["a"].astype(np.int64) @ given["b"])
    for kind in ("tensor", "column"):
        for scale in given[f"{kind} scales"][:2]:
            codes = np.clip(np.rint(bf16(sums.astype(np.float64) * bf16(scale))), -128, 127)
            assert np.array_equal(on_model(scale), codes)


@pytest.mark.parametrize("kind", ["tensor", "column"])
def test_lanes_of_integers_give_the_same_codes_where_a_factor_is_bf16(kind):
    given, compared = vectors(), 0
    for scale, results in zip(given[f"bf16 {kind} scales"], given[f"bf16 {kind} results"],
                              strict=True):
        assert np.array_equal(bf16(scale), scale)
        assert np.array_equal(on_model(scale, FIXED), results)
        assert not np.array_equal(on_model(scale), results)  # on lanes of BF16 they are others
        compared += results.size
    print(f"bf16 {kind}: {compared} codes, all equal")
    assert compared == 8 * 32 * 64


def two_factors(scale):
    """BF16 words whose product is nearest to each of ``scale``; the second is from 1 to 2, so that
    the first brings a sum to where a word holds it."""
    second = (128 + np.arange(128)) / 128
    first = bf16(scale[:, None] / second).astype(np.float64)
    best = np.abs(first * second / scale[:, None] - 1).argmin(axis=1)
    return first[np.arange(len(scale)), best], second[best]


@pytest.mark.parametrize("kind", ["tensor", "column"])
def test_lanes_of_integers_by_one_factor_and_by_two(kind):
    """A scale of 24 bits as one BF16 word is off by 2^-9 of it; as two by 2^-15 or so."""
    given, shares = vectors(), []
    for scale, results in zip(given[f"{kind} scales"], given[f"{kind} results"], strict=True):
        found = [differing(on_model(*own), results.astype(float)) for own in (
            (scale, FIXED), (two_factors(scale)[0], FIXED, two_factors(scale)[1]))]
        assert all(most <= 1 for _, most in found)
        shares.append([share for share, _ in found])
    one, two = np.mean(shares, axis=0)
    print(f"{kind}: off by one {one:.2%} with one factor, {two:.3%} with two, at most "
          f"{np.max(shares, axis=0)[1]:.3%} by one scale")
    assert two <= 0.003 and one <= 0.05


@pytest.mark.parametrize("lane", ["bf16", "fixed"])
@pytest.mark.parametrize("kind", ["tensor", "column"])
def test_rtl_stores_the_same(kind, lane):
    machine = small_accelerator("int8", **{"lane_kind": lane} if lane == "fixed" else {})
    case = program(machine.config, vectors()[f"{kind} scales"][0])
    compare(machine, case, "light", 1)


def test_other_scales_are_seen():
    given = vectors()
    share, most = differing(on_model(given["tensor scales"][0] * 1.02),
                            given["tensor results"][0].astype(float))
    assert most > 1 and share > 0.1
