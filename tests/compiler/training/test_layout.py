"""All trained arrays in one matrix whose rows, and the row of whose rows' squares, stay on chip."""

import numpy as np
import pytest

from compiler.training.layout import Layout
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_columns

CONFIG = AcceleratorConfig("posit8", dim=4, acc_depth=16)


def test_every_number_of_items_that_the_build_can_take_has_a_layout():
    most = row_columns(CONFIG)
    numbers = [*range(1, most ** 2 + 200), most ** 3 - 1, most ** 3]
    for items in numbers:
        layout = Layout.of({"w": (1, items)}, CONFIG)
        assert 0 <= layout.rows * layout.columns - items < max(
            layout.columns ** 2, layout.columns * (layout.groups + 1))
        assert layout.columns <= min(layout.rows, most)
        assert layout.rows % layout.groups == 0 and layout.rows <= most * layout.groups
        assert (layout.groups == 1) == (items <= most ** 2)
    print(f"{len(numbers)} layouts")
    with pytest.raises(ValueError, match="trained items must be at most 262144 in this build, not "
                                         "262152; a larger acc_depth takes more"):
        Layout.of({"w": (1, items + 1)}, CONFIG)


def test_arrays_lie_apart_and_come_back():
    rng = np.random.default_rng(0)
    shapes = {"a.lora_a": (3, 7), "a.lora_b": (5, 3), "w": (4, 9), "bias": (6,)}
    layout = Layout.of(shapes, CONFIG)
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    matrix = layout.matrix(arrays)
    found = layout.arrays(matrix, shapes)
    assert all(np.array_equal(found[name], arrays[name]) for name in shapes)
    assert np.count_nonzero(matrix) == sum(values.size for values in arrays.values())
    place = layout.places["a.lora_b"]
    assert place.transposed and (place.rows, place.columns) == (3, 5)
