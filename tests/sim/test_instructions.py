"""Random lists of vector instructions behind a GEMM or on a stored X, against the model."""

import numpy as np
import pytest

from hdl.spec.commands import Destination, Function, Operand, Post, Reduce
from sim.bench.programs import BASE, Case
from sim.bench.regression import compare, small_accelerator
from sim.lowering import Instruction
from sim.program import ProgramBuilder

PROGRAMS = 60


def random_instruction(rng, last):
    """Any instruction with at most one stage on Y; the last one of a list stores."""
    free = (Operand.NONE, Operand.NONE, Operand.IMM0, Operand.IMM1, Operand.R0, Operand.R1)
    stages = dict.fromkeys(("multiply", "add", "scale"), Operand.NONE)
    stages = {name: Operand(rng.choice(free)) for name in stages}
    if rng.random() < 0.5:
        stages[str(rng.choice(list(stages)))] = Operand.Y
    destinations = (Destination.NONE, Destination.BUFFER, Destination.MEMORY)
    return Instruction(
        **stages, subtract=bool(rng.integers(2)), relu=bool(rng.random() < 0.3),
        function=Function(rng.choice((0, 0, 0, 1, 2))), y=int(rng.integers(2)),
        reduce=Reduce(rng.integers(3)), reduce_to=int(rng.integers(2)),
        post=Post(rng.integers(2)),
        destination=Destination.MEMORY if last else Destination(rng.choice(destinations)))


def random_list(rng):
    """Both row registers are written before anything reads them."""
    start = [Instruction(reduce=Reduce.MAX, reduce_to=register) for register in (0, 1)]
    count = int(rng.integers(1, 7))
    return start + [random_instruction(rng, index == count - 1) for index in range(count)]


def random_case(config, rng):
    builder = ProgramBuilder(config, BASE)

    def tensor(rows, columns, wide=True):
        encoding = "bf16" if wide and rng.random() < 0.4 else config.format.encodings[0].name
        values = rng.standard_normal((rows, columns)) * 2.0 ** rng.integers(-3, 4)
        return builder.constant(values, encoding, skew=2 * int(rng.integers(8)))

    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    out = builder.empty(m, n, str(rng.choice(["bf16", config.format.encodings[-1].name])))
    options = {"scale": 0.75, "imm1": -1.5, "bias": tensor(1 if rng.random() < 0.5 else m, n),
               "y1": tensor(m, n), "instructions": random_list(rng)}
    if rng.random() < 0.5:
        builder.gemm(tensor(m, k, False), tensor(k, n, False), out, **options)
    else:
        builder.vector(tensor(m, n), out, **options)
    memory, address = builder.build(seed=int(rng.integers(1 << 31)))
    return Case(memory, address, BASE, (out,), f"{m}x{k}x{n} {options['instructions']}")


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_random_instruction_lists(fmt, profile):
    machine = small_accelerator(fmt)
    rng = np.random.default_rng([7, len(profile)])
    compared = sum(compare(machine, random_case(machine.config, rng), profile, seed, rewrites=True)
                   for seed in range(PROGRAMS))
    assert compared > 20 * PROGRAMS
    print(f"{fmt} {profile}: {PROGRAMS} programs, {compared} bytes compared")
