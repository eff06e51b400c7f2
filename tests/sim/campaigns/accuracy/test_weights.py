"""How many weights of real models are small: what posits lose on those they gain on others."""

import numpy as np
import pytest

from compiler.checkpoints.registry import load
from compiler.training.gradients.parameters import parameters
from support.require import require


@pytest.mark.slow
@pytest.mark.parametrize("name, wanted", [
    ("bert-tiny", (0.61, 0.18)), ("minilm", (0.74, 0.25)), ("smollm2", (0.28, 0.07))])
def test_shares_below_powers_of_two(name, wanted):
    found = parameters(require(load, name))
    weights = np.abs(np.concatenate([
        values.ravel() for key, values in found.items()
        if key.startswith("blocks") and key.endswith("weight")]))
    shares = [float((weights < 2.0 ** -power).mean()) for power in (4, 6)]
    print(f"{name}: {weights.size} weights, {shares[0]:.1%} below 2^-4, {shares[1]:.1%} below 2^-6")
    assert shares == pytest.approx(wanted, abs=0.005)
