"""Every kind of fault is there, and the model refuses what is said to be refused."""

from collections import Counter

import numpy as np
import pytest

from hdl.spec.commands import COMMAND, COMPUTING, INSTRUCTION, ErrorCause, means
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.faults.campaign import KINDS
from sim.campaigns.faults.injection import Maker, NotApplicable
from sim.campaigns.faults.target import Target
from sim.campaigns.programs import random_case
from sim.model.machine import Machine

BUILDS = [AcceleratorConfig("posit8", dim=4), AcceleratorConfig("fp8", dim=4, acc="exact"),
          AcceleratorConfig("bf16", dim=4, functions="softmax"),
          AcceleratorConfig("posit8es2", dim=4, functions="training")]
EACH = 25
MORE = {"command: field of no meaning": 5}  # one of many fields


def test_faults_of_the_bus_of_the_host_and_of_programs():
    starts = Counter(name.split()[0].rstrip(":") for name in KINDS)
    assert starts == {"SLVERR": 8, "DECERR": 11, "bus": 1, "silent": 15, "STOP": 1, "watchdog": 1,
                      "soft": 1, "reset": 1, "START": 1, "CSR": 1, "header": 7, "command": 11}


def injected(config, name, rng):
    """Faults of a kind in some random programs."""
    made = 0
    while made < EACH * MORE.get(name, 1):
        target = Target(config, random_case(config, rng, largest=9, rounds=2))
        for _ in range(5):
            try:
                yield KINDS[name].make(Maker(target, rng))
            except NotApplicable:
                break
            made += 1


@pytest.mark.parametrize("config", BUILDS, ids=lambda config: config.fmt)
def test_the_model_refuses_a_spoiled_program_with_its_cause(config):
    rng, causes, fields = np.random.default_rng(3), Counter(), Counter()
    for name, kind in KINDS.items():
        if not name.startswith(("header", "command")) or not kind.possible(config):
            continue
        for injection in injected(config, name, rng):
            case, memory = injection.target.case, injection.target.case.memory.copy()
            assert Machine(config).run(memory, case.address, case.base).error is None
            memory = case.memory.copy()
            for at, patch in injection.patches.items():
                memory[at:at + len(patch)] = np.frombuffer(patch, np.uint8)
            address = case.address if injection.address is None else injection.address
            ending = Machine(config).run(memory, address, case.base)
            assert (ending.error,) in injection.errors, name
            assert ending.error_address in injection.addresses, name
            causes[ending.error] += 1
            fields.update(changed(injection))
    print(f"{config.fmt}: {causes.total()} faults, {len(causes)} causes, {len(fields)} fields")
    wanted = {field.name for field in COMMAND.values() if field.limits or (field.strict
              and not all(means(field, opcode, config) for opcode in COMPUTING))}
    wanted |= {name for name, field in INSTRUCTION.items() if field.kind is not None}
    assert wanted | {"opcode", "instructions", "last"} <= set(fields)
    assert (ErrorCause.K_RANGE in causes) == (config.exact_sums) and len(causes) >= 10


def changed(injection):
    """The fields of commands that a fault changes, of instructions too."""
    target = injection.target
    for at, patch in injection.patches.items():
        word, old = (int.from_bytes(data, "little") for data in (
            patch, target.case.memory[at:at + len(patch)].tobytes()))
        if at == target.offset(-1):
            continue
        difference = word ^ old
        for name, field in COMMAND.items():
            part = difference >> field.offset & (1 << field.bits) - 1
            if part:
                yield name
            if name == "instructions":
                yield from (own.name for own in INSTRUCTION.values() if any(
                    part >> 32 * step + own.low & (1 << own.bits) - 1 for step in range(8)))
