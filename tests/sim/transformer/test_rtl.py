"""Small random transformers on the generated Verilog, every byte of memory against the model."""

import numpy as np
import pytest

from sim.bench.regression import small_accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine
from sim.transformer.fusion import Fusion
from sim.transformer.lower import lower
from sim.transformer.samples import SAMPLES, inputs_for


@pytest.mark.parametrize("level", [Fusion.NONE, Fusion.RESIDUAL],
                         ids=lambda level: level.name.lower())
@pytest.mark.parametrize("family", SAMPLES)
def test_whole_model_on_rtl(family, level):
    accelerator = small_accelerator("posit8")
    model = SAMPLES[family](**({"pooling": "mean_l2"} if family == "random-bert" else {}))
    program = lower(accelerator.config, model, inputs_for(model, 5), level=level, base=0x4000,
                    steps=(4, 1) if family == "random-llama" else None)
    memory, wanted = program.memory.copy(), program.memory.copy()
    outcome = Machine(accelerator.config).run(wanted, program.address, program.base)
    result = accelerator.run(memory, program.address, program.base, stalls=PROFILES["light"])
    assert (result.error, outcome.error, result.violations) == (None, None, [])
    assert np.array_equal(memory, wanted)
    compared = sum(tensor.rows * tensor.row_bytes for tensor in program.results.values())
    print(f"{family} {level.name}: {compared} bytes of results, {result.cycles} cycles")
    assert compared > 200
