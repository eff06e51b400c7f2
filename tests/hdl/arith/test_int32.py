"""Sums of integer products and the one rounding after them, against numpy's integers."""

import numpy as np
import pytest

from gen.block import design_block
from gen.leaves import Library
from gen.recorder import record
from hdl.arith.accumulator_adder import ExactAdder
from hdl.arith.exact_round import ExactRound
from hdl.spec.config import INT32_PRODUCTS, AcceleratorConfig
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from support import golden
from support.sabotage import with_fault

CONFIG = AcceleratorConfig("int8", dim=4)
MOST = INT32_PRODUCTS * 128 * 128  # the largest sum that K may give


def port(values):
    """int64 values as words of 32 bits."""
    return (np.asarray(values, np.int64) & 0xFFFFFFFF).astype(np.uint32)


def sums(rng, cases):
    """Sums of every length and sign, limits, powers of two and their neighbours."""
    values = rng.integers(-MOST, MOST + 1, cases) >> rng.integers(0, 31, cases)
    powers = (1 << rng.integers(0, 31, cases)) + rng.integers(-2, 3, cases)
    return np.concatenate([values, powers, -powers, [0, 1, -1, MOST, -MOST, 2**31 - 1, -2**31]])


def test_what_a_word_holds():
    assert (INT32_PRODUCTS, MOST) == (131_071, 2**31 - 2**14)
    assert CONFIG.acc_bits == 32 and CONFIG.k_most == INT32_PRODUCTS
    assert [CONFIG.column_bits(rows) for rows in (1, 2, 4)] == [16, 17, 18]
    assert MOST + 128 * 128 > 2**31 - 1


@pytest.mark.parametrize("latency", [1, 2])
def test_mac(latency):
    config = AcceleratorConfig("int8", dim=4, pe_latency=latency)
    batch = Batch(with_fault(design_block("mac", config), "psum_o", 7), "mac")
    rng, cases = np.random.default_rng(41), 200_000
    a, b = rng.integers(-128, 128, (2, cases))
    psum = np.resize(sums(rng, cases // 2), cases)
    psum = np.clip(psum, 128 * 128 - 2**31, 2**31 - 1 - 128 * 128)
    a[:2], b[:2], psum[:2] = -128, -128, (2**31 - 1 - 2**14, 7 - 2**14)
    # The psum meets operands that came ``latency`` - 1 clocks before it.
    later = latency - 1
    given = {"a_number": a & 255, "b_number": b & 255, "psum_i": np.roll(port(psum), later)}
    got = batch.run(given | {"fault": 0}, latency=latency)["psum_o"]
    expected = port(psum + a * b)
    check(f"mac int8, latency {latency}", got[:cases - later], expected[:cases - later])
    assert expected[1] == 7
    faulty = batch.run(given | {"fault": 1}, latency=latency)["psum_o"]
    assert count_mismatches(faulty[:cases - later], expected[:cases - later]) > 0


def test_a_tile_joins_its_word():
    library = Library("")
    library.add(ExactAdder(CONFIG), "adder")
    batch = Batch(with_fault(record(library, "adder"), "total", 5), "adder")
    rng, cases = np.random.default_rng(42), 200_000
    tile = rng.integers(-4 * 127 * 128, 4 * 128 * 128 + 1, cases)
    stored = np.clip(np.resize(sums(rng, cases // 2), cases), -MOST + 2**16, MOST - 2**16)
    # All products of the largest K are the largest: up to the last tile, and with it.
    tile[0], stored[0] = 3 * 128 * 128, MOST - 3 * 128 * 128
    first = rng.integers(0, 2, cases)
    first[0], first[1], tile[1] = 0, 1, 5
    given = {"stored": port(stored), "tile": tile & (1 << CONFIG.tile_bits) - 1, "first": first}
    expected = port(np.where(first, 0, stored) + tile)
    check("tiles of int8", batch.run(given | {"fault": 0})["total"], expected, given)
    assert expected[0] == MOST
    assert count_mismatches(batch.run(given | {"fault": 1})["total"], expected) > 0


def rounder():
    library = Library("")
    library.add(ExactRound(CONFIG.format, CONFIG.k_max), "rounder")
    return Batch(with_fault(record(library, "rounder"), "result", 0xBF80), "rounder")


def test_one_rounding_to_the_lane():
    import ml_dtypes

    batch, values = rounder(), sums(np.random.default_rng(43), 200_000)
    # ml_dtypes rounds float64 by way of float32: what is cut there only says that something is.
    near = (np.abs(values) >> 7 | (np.abs(values) & 127 != 0)) << 7
    near = np.where(np.abs(values) < 1 << 23, np.abs(values), near) * np.sign(values)
    expected = near.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    given = {"value": port(values), "is_lane_word": 0}
    got = batch.run(given | {"fault": 0})["result"]
    check("round int32", got, expected, {"value": values})
    faulty = batch.run(given | {"fault": 1})["result"]
    assert count_mismatches(faulty, got) == np.count_nonzero(values == -1) > 0
    kept = batch.run(given | {"is_lane_word": 1, "fault": 0})["result"]
    assert np.array_equal(kept, port(values) & 0xFFFF)


def test_golden_sums_and_rounding():
    batch = Batch(with_fault(design_block("mac", CONFIG), "psum_o", 7), "mac")
    (group,) = golden.groups("mac", format="int8", accumulator="int32")
    given = {f"{side}_number": golden.words(group, side) for side in "ab"}
    given |= {"psum_i": golden.words(group, "psum", 32), "fault": 0}
    assert check("golden mac int8", batch.run(given, latency=1)["psum_o"],
                 golden.words(group, "result", 32)) >= 170
    (group,) = golden.groups("rounding", format="int8", accumulator="int32")
    given = {"value": golden.words(group, "accumulator", 32), "is_lane_word": 0, "fault": 0}
    assert check("golden round int32", rounder().run(given)["result"],
                 golden.words(group, "value")) >= 100
