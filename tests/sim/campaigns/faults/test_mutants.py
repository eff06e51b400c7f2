"""Faults that are built into the design itself: the campaign must find each."""

import re

import pytest

from gen.top import generate
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.faults.campaign import Campaign
from sim.campaigns.regression import TINY
from sim.harness.accelerator import Accelerator

CONFIG = AcceleratorConfig("posit8", dim=4, **TINY)
MOST = 400
# Port of an instance in the top module, and the constant that it gets.
MUTANTS = {
    "reads may be awaited when a program is stopped": ("sequencer", "reader__quiet", "1'h1"),
    "writes may be unanswered when a program is stopped": ("sequencer", "writer__quiet", "1'h1"),
    "a program may end before its last write": ("sequencer", "writer_idle", "1'h1"),
    "errors of writes are not seen": ("sequencer", "writer__failure__valid", "1'h0"),
    "every error of a read is the program's own": ("sequencer", "awaited", "2'h0"),
    "a bus that answers counts as silent": ("sequencer", "writer__answered", "1'h0"),
    "stopped reads go on": ("reader", "engine__flush", "1'h0"),
    "stopped writes go on": ("writer", "engine__flush", "1'h0"),
}


def mutated(instance, port, value):
    """The generated design with ``port`` of ``instance`` tied to ``value``."""
    def tie(match):
        text, count = re.subn(rf"(\.{port}(?:_\d+)?)\([^)]*\)", rf"\1({value})", match[0])
        assert count == 1
        return text

    text, count = re.subn(rf"^  ottava__{instance} {instance} \(.*?^  \);", tie, generate(CONFIG),
                          flags=re.MULTILINE | re.DOTALL)
    assert count == 1
    return text


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found(name):
    campaign = Campaign(Accelerator(CONFIG, verilog=mutated(*MUTANTS[name])), 0, MOST)
    for index in range(MOST):
        campaign.run(index)
        if campaign.tally.problems:
            print(f"{name}: fault {index}: {campaign.tally.problems[0]}")
            return
    raise AssertionError(f"{MOST} faults did not show that {name}")
