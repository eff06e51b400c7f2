"""Small random transformers on the generated Verilog, every byte of memory against the model."""

import numpy as np
import pytest

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.checkpoints.source import open_model, read
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.regression import small_accelerator
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine


def compared(accelerator, program):
    """Bytes of results; every byte of memory is the model's."""
    memory, wanted = program.memory.copy(), program.memory.copy()
    outcome = Machine(accelerator.config).run(wanted, program.address, program.base)
    result = accelerator.run(memory, program.address, program.base, stalls=PROFILES["light"])
    assert (result.error, outcome.error, result.violations) == (None, None, [])
    assert np.array_equal(memory, wanted)
    return sum(tensor.rows * tensor.row_bytes for tensor in program.results.values())


@pytest.mark.parametrize("level", [Fusion.NONE, Fusion.RESIDUAL],
                         ids=lambda level: level.name.lower())
@pytest.mark.parametrize("family", SAMPLES)
def test_whole_model_on_rtl(family, level):
    accelerator = small_accelerator("posit8")
    model = SAMPLES[family](**({"pooling": "mean_l2"} if family == "random-bert" else {}))
    program = lower(accelerator.config, model, inputs_for(model, 5), level=level, base=0x4000,
                    steps=(4, 1) if family == "random-llama" else None)
    assert compared(accelerator, program) > 200


def test_digits_vit_whole_on_rtl():
    accelerator = small_accelerator("posit8")
    model = open_model("digits-vit")
    program = lower(accelerator.config, model, read("digits-vit", model, None))
    assert compared(accelerator, program) == 4148


def test_padded_sequences_on_rtl():
    accelerator = small_accelerator("posit8")
    model = SAMPLES["random-bert"](layers=1, pooling="mean")
    valid = np.arange(5) < np.array([[5], [2], [3]])
    ids = inputs_for(model, 5, sequences=3).values
    program = lower(accelerator.config, model, Inputs("ids", ids, valid))
    assert compared(accelerator, program) > 200


@pytest.mark.slow
@pytest.mark.parametrize("family", SAMPLES)
def test_lengths_to_512_on_rtl(family):
    # Every length up to two tiles of rows and a bit, then around the powers of two.
    accelerator = Accelerator(AcceleratorConfig("posit8", dim=4))
    model = SAMPLES[family](**({} if family == "random-llama" else {"positions": 512}))
    around = [length + step for length in (64, 128, 256, 384, 512) for step in (-1, 0, 1)]
    lengths = [*range(1, 41), *(length for length in around if length <= 512)]
    for length in lengths:
        program = lower(accelerator.config, model, inputs_for(model, length))
        assert compared(accelerator, program) > length
    print(f"{family}: {len(lengths)} lengths")
