"""Random lists of vector instructions after a GEMM or on a stored X, against the model."""

import numpy as np
import pytest

from sim.campaigns.lists import random_list_case
from sim.campaigns.regression import compare
from support.builds import tiny
from support.seeds import seed_of

PROGRAMS = 60


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_random_instruction_lists(fmt, profile):
    machine = tiny(fmt)
    rng = np.random.default_rng(seed_of(fmt, profile))
    compared = sum(compare(machine, random_list_case(machine.config, rng), profile, seed,
                           rewrites=True) for seed in range(PROGRAMS))
    assert compared > 20 * PROGRAMS
    print(f"{fmt} {profile}: {PROGRAMS} programs, {compared} bytes compared")
