"""Random faults on Verilated builds; what the campaign itself must notice."""

import subprocess
import sys

import numpy as np
import pytest

from hdl.spec.config import ACCUMULATORS, AcceleratorConfig, accumulators
from hdl.spec.formats import format_named
from sim.campaigns.faults.campaign import Campaign
from sim.campaigns.faults.injection import KINDS, Maker, NotApplicable
from sim.campaigns.faults.sabotage import LIES, Liar
from sim.campaigns.faults.target import Target
from sim.campaigns.programs import random_case
from sim.campaigns.regression import TINY, small_accelerator
from sim.model.machine import Machine

FAULTS = 500
MANY = 4000


def campaign(machine, count, seed=0):
    faults = Campaign(machine, seed, count)
    for index in range(count):
        faults.run(index)
    return faults.tally


@pytest.mark.first
@pytest.mark.parametrize("fmt, functions", [("posit8", "all"), ("fp8", "training"),
                                            ("bf16", "training")])
def test_random_faults(fmt, functions):
    tally = campaign(small_accelerator(fmt, functions=functions), FAULTS)
    assert tally.problems == [] and tally.missing() == []
    assert tally.faults == FAULTS and tally.accesses > FAULTS and tally.bytes > 20 * FAULTS
    print(f"{fmt}: {tally.faults} faults, {tally.accesses} CSR accesses, {tally.cycles} cycles")


@pytest.mark.slow
@pytest.mark.parametrize("fmt, changes", [
    ("posit8", {"acc": "exact"}), ("fp8", {"functions": "training"}), ("bf16", {}),
    ("posit8", {"dim": 8, "lanes": 4})])
def test_many_random_faults(fmt, changes):
    tally = campaign(small_accelerator(fmt, **changes), MANY, seed=1)
    assert tally.problems == [] and tally.missing() == []
    print(f"{fmt} {changes}: {tally.faults} faults, {tally.cycles} cycles")


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_of_the_harness_is_found(lie):
    machine = small_accelerator("posit8")
    assert campaign(machine, 12).problems == []
    assert campaign(Liar(machine, lie), 12).problems


@pytest.mark.parametrize("name", [name for name in KINDS if name.split(":")[0] in
                                  ("header", "command")])
def test_the_model_refuses_what_the_campaign_says(name):
    possible = set(KINDS[name].accs) & set(accumulators(format_named("fp8")))
    acc = max(possible, key=ACCUMULATORS.index)
    config = AcceleratorConfig("fp8", dim=4, acc=acc,
                               functions="training" if KINDS[name].needs else "all", **TINY)
    rng = np.random.default_rng(3)
    checked = 0
    for _ in range(100):
        target = Target(config, random_case(config, rng, largest=7))
        try:
            injection = KINDS[name].make(Maker(target, rng))
        except NotApplicable:
            continue
        memory = target.case.memory.copy()
        for at, patch in injection.patches.items():
            memory[at:at + len(patch)] = np.frombuffer(patch, np.uint8)
        address = target.case.address if injection.address is None else injection.address
        outcome = Machine(config).run(memory, address, target.case.base)
        assert {(outcome.error,)} == injection.errors
        assert outcome.error_address in injection.addresses
        checked += 1
        if checked == 5:
            return
    raise AssertionError(f"only {checked} faults of kind {name!r}")


@pytest.mark.parametrize("arguments, message", [
    (["--count", "0"], "--count must be an integer from 1 up, not 0"),
    (["--fmt", "int4"], "format must be one of posit8, "),
    (["--dim", "3"], "dim must be a power of two"),
    (["--sabotage", "none"], "--sabotage must be one of")])
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    done = subprocess.run([sys.executable, "-m", "sim.faults", *arguments], text=True,
                          capture_output=True)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
