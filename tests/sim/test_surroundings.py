"""Programs on the Verilog of builds for other surroundings, in the harness: every byte, every rule.

Two clocks that are unrelated, and resets in the middle of things, are ``sim.bench``'s, bench
``clocks``.
"""

import numpy as np
import pytest

from gen.cached import generated
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import random_case, stray_writes
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=4, input_depth=64, weight_depth=64, acc_depth=64)
PROGRAMS = 30
ON_FPGA = (AcceleratorConfig("posit8", dim=4, acc="exact", pe_latency=3, lane_latency=3, sum_ways=2,
                             bus_bytes=4, input_depth=64, weight_depth=64, acc_depth=64),
           Surroundings(target="fpga", address_bits=34))
EVERY = Surroundings(reset="async", clock_enable=True, control_clock=True, power_up="unknown",
                     address_bits=34, outstanding=3, burst=5)


def run_programs(accelerator, count=PROGRAMS):
    """Results of ``count`` programs, each with every byte as the model has it."""
    rng, found, compared, config = np.random.default_rng(5), [], 0, accelerator.config
    for index in range(count):
        case = (random_case(config, rng, largest=20), random_list_case(config, rng))[index % 2]
        expected = case.memory.copy()
        assert Machine(config).run(expected, case.address, case.base).error is None
        result = accelerator.run(case.memory, case.address, case.base, seed=index,
                                 stalls=list(PROFILES.values())[index % len(PROFILES)])
        assert result.error is None and result.violations == []
        assert (case.memory == expected).all()
        assert not stray_writes(case, np.minimum(result.written, 1))
        found.append(result)
        compared += case.memory.size
    print(f"{count} programs, {compared} bytes compared, "
          f"{accelerator.skipped} edges without aclken")
    return found


@pytest.mark.first
@pytest.mark.parametrize("around", [
    EVERY,
    pytest.param(Surroundings(clock_enable=True), marks=pytest.mark.slow),
    pytest.param(Surroundings(reset="async"), marks=pytest.mark.slow),
    pytest.param(Surroundings(power_up="unknown", outstanding=1), marks=pytest.mark.slow)],
    ids=str)
def test_programs(around):
    accelerator = Accelerator(CONFIG, surroundings=around)
    results = run_programs(accelerator)
    assert bool(accelerator.skipped) == around.clock_enable
    most = max(max(result.bus["most_reads_outstanding"], result.bus["most_writes_outstanding"])
               for result in results)
    assert most == around.outstanding or most < 16 < around.outstanding
    longest = max(result.counters["read_beats"] / result.counters["read_bursts"]
                  for result in results)
    assert longest <= around.burst and (longest > 1.5 or around.burst == 16)
    cycles = accelerator.skipped
    accelerator.run_for(1000)  # a reset where nothing is under way
    accelerator.reset()
    run_programs(accelerator, 2)
    assert not around.clock_enable or accelerator.skipped > cycles + 300


def test_programs_on_the_text_for_an_fpga():
    config, around = ON_FPGA
    accelerator = Accelerator(config, surroundings=around)
    assert " * " in generated(config, surroundings=around).modules["float_multiply_bf16_cut2_fpga"
                                                                    ].text
    run_programs(accelerator, 40)


@pytest.mark.slow
def test_an_enable_that_something_ignores_is_seen():
    made = generated(CONFIG, surroundings=EVERY)
    name = "sram_fifo"  # all that are beats on their way
    texts = {module.name: module.text.replace(".clken(clken)", ".clken(1'h1)")
             if module.name.startswith(name) else module.text for module in made.modules.values()}
    assert sum(texts[key] != module.text for key, module in made.modules.items()) >= 3
    accelerator = Accelerator(CONFIG, surroundings=EVERY,
                              verilog=made.header + "".join(texts.values()))
    with pytest.raises((AssertionError, TimeoutError)):
        run_programs(accelerator)
