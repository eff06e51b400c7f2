"""One build under everything that the campaigns have: shapes, instruction lists, faults, a head."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compiler.checkpoints import small
from compiler.lowering.heads import lower
from gen.cached import generated
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS
from sim.campaigns import shapes
from sim.campaigns.coverage import code
from sim.campaigns.coverage.spec import Point, SpecCoverage
from sim.campaigns.faults.campaign import Campaign
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import Case, long_rows_case, random_case
from sim.campaigns.regression import compare
from sim.harness.accelerator import Accelerator, HungError
from sim.harness.stalls import PROFILES

__all__ = ["Amounts", "Covered", "attempt", "cover"]

_LARGEST = 80
_TOKENS = 12


@dataclass(frozen=True)
class Amounts:
    """How much runs on each build: GEMMs, random lists, programs of large shapes, faults."""

    gemms: int = 300
    lists: int = 300
    large: int = 20
    faults: int = 500


@dataclass
class Covered:
    """What a build's campaign met: points of the format, counts and gaps of its Verilog."""

    config: AcceleratorConfig
    met: set[Point] = field(default_factory=set)
    counts: dict[code.Place, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    programs: int = 0
    bytes: int = 0
    faults: int = 0


def cover(config: AcceleratorConfig, amounts: Amounts, seed: int) -> Covered:
    """Build ``config`` with counters and run everything; ``AssertionError`` on a difference."""
    made = generated(config)
    machine = Accelerator(config, design=made, coverage=True)
    found, spec = Covered(config), SpecCoverage()

    def right(case: Case) -> None:
        spec.program(config, case.memory, case.address, case.base)
        found.programs += 1

    tally = shapes.run(machine, amounts.gemms, seed, right)
    found.bytes += tally.results
    rng = np.random.default_rng([seed, 1])
    profiles = list(PROFILES)
    for index in range(amounts.lists):
        case = random_list_case(config, rng)
        found.bytes += compare(machine, case, profiles[index % 4], index, rewrites=True)
        right(case)
    for index in range(amounts.large):
        case = random_case(config, rng, largest=_LARGEST)
        found.bytes += compare(machine, case, profiles[index % 4], index)
        right(case)
    for index in range(4):
        case = long_rows_case(config, rng)
        found.bytes += compare(machine, case, profiles[index], index)
        right(case)
    if not config.fixed:  # a head takes a softmax
        program = lower(config, small.load(_TOKENS), [0], seed=seed)
        outputs = tuple(program.results.values())
        head = Case(program.memory, program.address, program.base, outputs, "a head")
        found.bytes += compare(machine, head, "ideal", seed)
        right(head)
    _faults(machine, amounts.faults, seed, spec, found)
    _registers(machine)
    found.met = spec.met
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.dat"
        machine.write_coverage(path)
        found.counts = code.hardware(code.read(path.read_text()), made.text)
    found.missing = code.missing(found.counts, made)
    return found


def attempt(config: AcceleratorConfig, amounts: Amounts, seed: int) -> Covered | str:
    """``cover``, or the line that says what went wrong."""
    try:
        return cover(config, amounts, seed)
    except (AssertionError, HungError) as error:
        return str(error)


def _faults(machine: Accelerator, count: int, seed: int, spec: SpecCoverage, found: Covered
            ) -> None:
    campaign = Campaign(machine, seed, count)
    for index in range(count):
        campaign.run(index)
    assert not campaign.tally.problems, campaign.tally.problems[0]
    found.faults = campaign.tally.faults
    for cause in _causes(campaign.tally.outcomes.values()):
        spec.error(machine.config, cause)


def _causes(outcomes: Iterable[dict[str, int]]) -> set[ErrorCause]:
    """Every cause in names like ``WATCHDOG+BUS_STUCK``."""
    names = {name for counts in outcomes for outcome in counts for name in outcome.split("+")}
    return {cause for cause in ErrorCause if cause.name in names}


def _registers(machine: Accelerator) -> None:
    """Read every register once; the campaigns need only some."""
    for register in REGISTERS:
        machine.read(register.name)
