"""Every family as a program: the machine model against codes of no program, RTL against both."""

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import layer_range, lower, make_steps
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.model import codec
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.runner import on_machine, on_rtl
from support.families import NAMES, stored

CONFIG = AcceleratorConfig("posit8", dim=4)
PLAIN = AcceleratorConfig("bf16", dim=4)


def opened(name, folder):
    case = stored(name)
    model = load(case.write(folder / name))
    return case, model, case.inputs(model)


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_every_family(name, tmp_path):
    case, model, inputs = opened(name, tmp_path)
    compared = 0
    for config, level in ((CONFIG, Fusion.RESIDUAL), (CONFIG, Fusion.NONE),
                          (PLAIN, Fusion.RESIDUAL)):
        program = lower(config, model, inputs, level=level, keep=True)
        done = on_machine(program.image, config)
        codes = expected(config, model, inputs, make_steps(model, inputs, None), level=level,
                         layers=layer_range(model, None))
        result = compare(program, done, codes)
        wrong = [tensor for tensor, count in result.differing.items() if count]
        assert not wrong, f"{config.fmt} {level.name}: {len(wrong)} differ, first {wrong[0]}"
        compared += result.total
    print(f"{name}: {compared} bytes")
    assert compared > 3000
    near_transformers(case, model, program, done)


def near_transformers(case, model, program, done):
    """BF16's results by what transformers has in fp32."""
    last = "head bf16" if model.head is not None else "final norm bf16"
    if last not in program.results:
        last = f"layer {len(model.blocks) - 1} bf16"
    tensor = program.results[last]
    found = codec.decode(tensor.encoding, read_codes(done.memory, tensor))
    wanted = case.output[-len(found):]
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max() + 0.05


@pytest.mark.slow
def test_every_family_on_rtl(tmp_path):
    for name in NAMES:
        _, model, inputs = opened(name, tmp_path)
        program = lower(CONFIG, model, inputs)
        run = on_rtl(program.image, CONFIG)
        print(f"{name}: {np.count_nonzero(run.written)} bytes written, {run.cycles} cycles, "
              f"{run.mismatches} mismatches")
        assert run.mismatches == 0 and np.count_nonzero(run.written) > 1000
