"""Random GEMMs with every epilogue on RTL, of builds that differ in their accumulators."""

import numpy as np

from sim.campaigns.programs import epilogues, random_case
from sim.campaigns.regression import compare
from sim.harness.accelerator import Accelerator

from .seeds import seed_of

__all__ = ["compare_random"]


def compare_random(machine: Accelerator, profile: str, programs: int = 60) -> None:
    """Every eighth of the ``programs`` is large. ``AssertionError`` on the first difference."""
    config = machine.config
    kinds = epilogues(config)
    rng = np.random.default_rng(seed_of(config.fmt, config.acc, profile))
    compared = sum(compare(machine, random_case(
        config, rng, largest=(13, 60)[index % 8 == 7],
        epilogue=kinds[index % len(kinds)]), profile, index) for index in range(programs))
    assert compared > 1000
    print(f"{config.fmt} {config.acc} {profile}: {programs} programs, {compared} bytes compared")
