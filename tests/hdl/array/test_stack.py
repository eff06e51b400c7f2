"""Adders of the exact array's columns, side by side, against Python's integers."""

import numpy as np
import pytest
from amaranth.hdl import Shape

from gen.leaves import Library
from hdl.arith.exact_sum import exact_sum
from hdl.array.column_adders import ColumnAdders
from hdl.spec.config import AcceleratorConfig
from sim.harness.batch import Batch

CASES = 500


def words_of(values, width):
    """Integers of ``width`` bits as rows of 32-bit words, the lowest first."""
    size = -(-width // 32)
    return np.array([np.frombuffer(value.to_bytes(4 * size, "little"), np.uint32)
                     for value in values])


def value_of(layout, word):
    """(sum with its carry, NaR) of one column's bits."""
    parts = {name: word >> item.offset & (1 << item.width) - 1 for name, item in layout}
    top = 1 << layout["sum"].width - 1
    return (parts["sum"] ^ top) - top + parts["carry"], parts["nar"]


@pytest.mark.parametrize("columns", [4, 16])
def test_every_column_has_its_own_sum(columns):
    config = AcceleratorConfig("posit8", acc="exact", dim=columns)
    narrow, wide = (exact_sum(config.format, products) for products in (2, 4))
    bits, wide_bits = (Shape.cast(layout).width for layout in (narrow, wide))
    library = Library()
    library.add(ColumnAdders(config, 2, columns), "adders")
    rng = np.random.default_rng(columns)
    given = {side: [[int.from_bytes(rng.bytes(bits // 8 + 1), "little") % (1 << bits)
                     for _ in range(columns)] for _ in range(CASES)] for side in ("upper", "lower")}
    packed = {side: words_of([sum(word << index * bits for index, word in enumerate(row))
                              for row in rows], columns * bits) for side, rows in given.items()}
    batch = Batch(library.verilog(), "adders", optimise="-O0")
    found = batch.run(packed)["o"]
    checked = 0
    for case in range(CASES):
        total = int.from_bytes(found[case].tobytes(), "little")
        for column in range(columns):
            upper, lower = (value_of(narrow, given[side][case][column])
                            for side in ("upper", "lower"))
            word = total >> column * wide_bits & (1 << wide_bits) - 1
            assert value_of(wide, word) == (upper[0] + lower[0], upper[1] | lower[1])
            checked += 1
    print(f"{columns} columns: {checked} sums")
    assert checked == CASES * columns
