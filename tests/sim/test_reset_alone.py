"""``aresetn`` while transfers are under way, and a memory that is not reset with it."""

from collections import Counter

import numpy as np
import pytest

from hdl.spec.commands import ErrorCause
from hdl.spec.registers import REGISTERS
from sim.campaigns.programs import random_case
from sim.campaigns.regression import compare
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine
from support.builds import tiny

(STATUS,) = (register for register in REGISTERS if register.name == "STATUS")
BUSY, DONE, FAILED, STUCK = (1 << field.low for field in STATUS.fields)
LIMIT = 50_000


def after_reset(machine, case, cycle, pause, profile, *, alone=True):
    """Run ``case``, reset at ``cycle``, after ``pause`` cycles run it again: what became of that,
    and whether a burst was half written at the reset."""
    memory, expected = case.memory.copy(), case.memory.copy()
    Machine(machine.config).run(expected, case.address, case.base)
    with machine.attached(memory, case.base, stalls=PROFILES[profile], seed=cycle) as written:
        machine.start(case.address)
        machine.run_for(cycle)
        torn = machine.write_under_way
        machine.reset(alone=alone)
        machine.run_for(pause)
        machine.start(case.address)
        if machine.read("STATUS") == STUCK:
            assert machine.read("ERROR") == 1 << ErrorCause.BUS_STUCK
            ending = "refused"
        else:
            result = machine.collect(machine.wait(LIMIT), written)
            if result.error is not None:
                ending = result.error.name
                machine.start(case.address)
                assert (machine.read("STATUS") == FAILED | STUCK) == bool(result.status & STUCK)
            else:
                ending = "right" if np.array_equal(memory, expected) else "wrong"
    machine.violations()  # the memory's, which answers what the checker has forgotten
    machine.reset()
    return ending, torn


@pytest.mark.parametrize("pause", [0, 400])
def test_what_a_memory_still_owes_is_taken_for_no_answer(pause):
    machine = tiny("posit8")
    endings = Counter()
    for seed in range(4):
        case = random_case(machine.config, np.random.default_rng(seed + 40))
        for profile in ("ideal", "bursty"):
            for cycle in range(5, 1200, 37):
                endings[after_reset(machine, case, cycle, pause, profile)] += 1
        compare(machine, case, "light", 0)
    print(f"{endings.total()} resets alone, {pause} cycles before the next start: {dict(endings)}")
    assert not endings["wrong", False] and endings["right", False] > 50
    assert endings["refused", False] + endings["BUS_STUCK", False] > 50
    # A burst of which the memory has a part is ended by data of the next program: no master can
    # know, and only a memory that is reset too is safe.
    assert {ending for ending, torn in endings if not torn} <= {"right", "refused", "BUS_STUCK"}


def test_a_memory_that_is_reset_too_owes_nothing():
    machine = tiny("posit8")
    case = random_case(machine.config, np.random.default_rng(41))
    endings = Counter(after_reset(machine, case, cycle, 0, "bursty", alone=False)[0]
                      for cycle in range(5, 1200, 37))
    assert endings.keys() == {"right"} and endings.total() == 33
