"""The arithmetic that whole models are measured with against programs on the machine model: a
trained layer, every format, accumulator and fusion level, every tensor."""

from functools import cache
from itertools import cycle

import numpy as np
import pytest

from compiler.checkpoints.digits import DRAWN, load_digits, patches
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower, make_steps
from compiler.program.builder import read
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig, accumulators
from hdl.spec.formats import FORMATS, format_named
from sim.verify import arithmetic
from sim.verify.arithmetic import Arithmetic
from sim.verify.compare import compare
from sim.verify.expected import expected, outputs
from sim.verify.runner import on_machine

BUILDS = [(fmt, acc) for fmt in FORMATS for acc in accumulators(format_named(fmt))]


@cache
def given():
    """Two drawn digits, side by side."""
    return Inputs("patches", np.stack([patches(DRAWN[digit]) for digit in (3, 8)]))


def ran(config, level, layers=None):
    program = lower(config, load_digits(), given(), level=level, layers=layers, keep=True,
                    scales="unit")
    return program, on_machine(program.image, config, quiet=True)


@pytest.mark.parametrize("fmt, acc", BUILDS)
def test_every_tensor_of_a_layer(fmt, acc):
    compared, model, modes = 0, load_digits(), cycle(SOFTMAX_MODES)
    for level in Fusion:
        config = AcceleratorConfig(fmt, acc=acc, softmax=next(modes))
        program, run = ran(config, level, range(1))
        codes = expected(config, model, given(), make_steps(model, given(), None), level=level,
                         layers=range(1))
        found = compare(program, run, codes)
        assert found.mismatches == 0, [name for name, wrong in found.differing.items() if wrong]
        compared += found.total
    print(f"{fmt} {acc}: {compared} bytes, all equal")
    assert compared > 5 * 20_000


@pytest.mark.parametrize("acc", accumulators(format_named("posit8")))
def test_what_a_model_gives_whatever_stands_beside_it(acc):
    config, model = AcceleratorConfig("posit8", acc=acc), load_digits()
    program, run = ran(config, Fusion.RESIDUAL)
    math = Arithmetic(config)
    together = outputs(math, model, given())
    assert np.array_equal(together, read(run.memory, program.results["head bf16"], program.base))
    one_by_one = [outputs(math, model, Inputs("patches", values[None]))
                  for values in given().values]
    assert np.array_equal(together, np.concatenate(one_by_one)) and together.shape == (2, 10)


def test_another_arithmetic_is_found(monkeypatch):
    config, model = AcceleratorConfig("posit8"), load_digits()
    program, run = ran(config, Fusion.RESIDUAL)
    right = arithmetic.accumulate.product
    monkeypatch.setattr(arithmetic.accumulate, "product",
                        lambda config, a, b: right(AcceleratorConfig("posit8", acc="exact"), a, b))
    codes = expected(config, model, given(), make_steps(model, given(), None), layers=range(2))
    assert compare(program, run, codes).mismatches > 0
