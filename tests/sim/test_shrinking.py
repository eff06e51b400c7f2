"""Random programs that hypothesis draws: a failing one shrinks to the few commands that fail."""

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from compiler.program.records import commands
from hdl.spec.commands import Opcode
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.lists import random_list_case
from sim.campaigns.regression import compare, small_accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine
from support.builds import tiny
from support.properties import DrawnGenerator, cases, examples

CONFIG = AcceleratorConfig("posit8", dim=4)


@pytest.mark.parametrize("fmt", ["posit8", "fp8"])
def test_drawn_programs_on_rtl(fmt):
    machine, compared = tiny(fmt), []

    @examples(40, fmt)
    @given(cases(machine.config, rounds=4), st.sampled_from(list(PROFILES)), st.integers(0, 99))
    def run(case, profile, seed):
        compared.append(compare(machine, case, profile, seed))

    run()
    print(f"{fmt}: {len(compared)} programs, {sum(compared)} bytes compared")
    assert len(compared) >= 40 and sum(compared) > 20 * len(compared)


def test_drawn_lists_on_rtl():
    machine, compared = small_accelerator("posit8"), []

    @examples(40)
    @given(st.data(), st.sampled_from(list(PROFILES)), st.integers(0, 99))
    def run(data, profile, seed):
        case = random_list_case(machine.config, DrawnGenerator(data.draw))
        compared.append(compare(machine, case, profile, seed, rewrites=True))

    run()
    print(f"lists: {len(compared)} programs, {sum(compared)} bytes compared")
    assert len(compared) >= 40


def computing(case):
    """The commands that compute, in order."""
    return [fields for _, fields in commands(case.memory, case.address, case.base)
            if fields["opcode"] in (Opcode.GEMM, Opcode.VECTOR)]


def test_a_failing_program_of_many_commands_shrinks_to_the_one_that_fails():
    # A fault in one kind of GEMM of a certain size: the rest of what failed must go.
    def wrong(fields):
        return (fields["opcode"] == Opcode.GEMM and fields["b_transposed"]
                and fields["k"] >= 9 and fields["n"] >= 7)

    failing = []

    def fails(case):
        if any(map(wrong, computing(case))):
            failing.append(len(computing(case)))
            return True
        return False

    found = find(cases(CONFIG, rounds=8), fails, settings=examples(400))
    (fields,) = computing(found)
    print(f"{len(failing)} failing programs, the first of {failing[0]} commands, the last of 1: "
          f"{found.label}")
    assert failing[0] >= 5
    assert (fields["m"], fields["k"], fields["n"]) == (1, 9, 7)
    assert not fields["a_transposed"] and not fields["c_transposed"]


@examples(30)
@given(cases(CONFIG, rounds=3))
def test_drawn_programs_end_on_the_machine(case):
    memory = case.memory.copy()
    outcome = Machine(CONFIG).run(memory, case.address, case.base)
    assert outcome.error is None
    assert np.array_equal(memory, case.memory) == (not case.outputs)
