"""The Integer Transformer beside others: its exact figures, and scales by name."""

from dataclasses import replace

import numpy as np
import pytest

from sim.campaigns.accuracy import compute
from sim.campaigns.accuracy.cells import PLAIN, Cell
from sim.campaigns.accuracy.tasks import task_of
from support.require import require


def test_a_reference_in_float64_is_what_training_computes():
    task = require(lambda: task_of("digits"))
    own, other = (compute._plain(replace(task, trains=trains)) for trains in (True, False))
    images = np.stack(task.examples[:5])
    assert np.abs(own(images, False) - other(images, False)).max() < 1e-6


@pytest.mark.parametrize("fmt, scales, least, most", [
    ("int8", "row", 0.001, 0.04), ("int8", "static", 0.001, 0.04), ("bf16", None, 0.001, 0.02),
    ("int8", "unit", 0.5, np.inf)])
def test_scales_of_a_cell(fmt, scales, least, most):
    """Of a few images; those without scales are all lost."""
    cell = Cell("digits-integer", fmt, scales=scales)
    require(lambda: task_of(cell.task))
    rows, plain = (compute.computed(own, range(4)) for own in (cell, replace(
        cell, fmt=PLAIN, scales=None)))
    error = np.linalg.norm(rows - plain) / np.linalg.norm(plain)
    assert least < error < most
    if scales is not None:
        assert str(cell).endswith(f"scales {scales}")


def test_scales_that_a_build_has_not():
    require(lambda: task_of("digits-integer"))
    with pytest.raises(ValueError, match="scales must be unit in a build with functions all"):
        compute.computed(Cell("digits-integer", "posit8", scales="row"), range(2))
