"""Weights are rounded once as long as there is room, else in parts each time."""

import numpy as np

from compiler.checkpoints.description import Linear
from hdl.spec.config import AcceleratorConfig
from sim.verify import arithmetic
from sim.verify.arithmetic import Arithmetic

CONFIG = AcceleratorConfig("posit8", dim=4)


class Counting(Arithmetic):
    """Keeps the numbers of items that it rounds."""

    def __init__(self, kept):
        super().__init__(CONFIG, kept)
        self.rounded = []

    def stored(self, values):
        self.rounded.append(values.size)
        return super().stored(values)


def test_weights_without_room_are_rounded_in_parts(monkeypatch):
    monkeypatch.setattr(arithmetic, "_AT_ONCE", 8 * 24 * 7)  # seven rows
    rng = np.random.default_rng(0)
    linear = Linear(rng.normal(0, 1, (50, 24)), rng.normal(0, 1, 50))
    none, enough = Counting(0), Counting(8 * 24 * 50)
    x = Arithmetic(CONFIG).stored(rng.normal(0, 1, (3, 24)))
    found = [math.linear(x, linear) for math in (none, enough, none, enough)]
    assert all(np.array_equal(one, found[0]) for one in found) and found[0].shape == (3, 50)
    assert none.rounded == 2 * [*[24 * 7] * 7, 24]
    assert enough.rounded == [24 * 50]  # and its room is full from then on
