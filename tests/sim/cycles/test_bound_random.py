"""Random commands, their fields drawn one by one, against the lower bound."""

from collections import Counter

import numpy as np
import pytest

from hdl.spec.commands import COMMAND, INSTRUCTION, Function, Opcode, Operand, Post, Reduce, pack
from hdl.spec.config import AcceleratorConfig
from sim.cycles.simulate import Memory, simulate
from sim.model.command import Command
from sim.model.memory import ProgramError

PROGRAMS = 60
BUILDS = [
    ("posit8", {"dim": 4}), ("fp8", {"dim": 8, "lanes": 4, "bus_bytes": 4}),
    ("bf16", {"dim": 4, "bus_bytes": 64, "lane_latency": 2, "sum_ways": 2}),
    ("posit8", {"dim": 16, "lanes": 4, "pe_latency": 2, "acc": "exact"}),
    ("posit8", {"dim": 4, "input_depth": 64, "weight_depth": 8, "acc_depth": 16, "row_depth": 4}),
]
FLAGS = ("a_transposed", "b_transposed", "c_transposed", "x_wide", "y0_wide", "y1_wide", "c_wide",
         "row_max", "row_result", "x_gather")


def instruction(rng, last):
    stage = [Operand.NONE, Operand.NONE, Operand.IMM0, Operand.Y, Operand.R0, Operand.R1]
    fields = {name: rng.choice(stage) for name in ("multiply", "add", "scale")} | {
        "function": rng.choice(list(Function)), "y": rng.integers(2),
        "reduce": rng.choice([Reduce.NONE, *Reduce]), "reduce_to": rng.integers(2),
        "post": rng.choice(list(Post)), "destination": rng.choice([0, 1, 2, 2]), "last": last}
    word = pack(INSTRUCTION, {name: int(value) for name, value in fields.items()}, 4)
    return int.from_bytes(word, "little")


def command(rng, unit):
    """Fields of a GEMM or VECTOR, perhaps not valid; tensors at multiples of ``unit`` bytes."""
    m, k, n = (int(2 ** rng.uniform(0, 7)) for _ in range(3))
    vector, count = rng.random() < 0.5, int(rng.integers(1, 5))
    fields = dict.fromkeys(COMMAND, 0) | {name: int(rng.random() < 0.25) for name in FLAGS}
    fields |= {"opcode": Opcode.VECTOR if vector else Opcode.GEMM, "m": m, "n": n,
               "k": 1 if vector and not fields["x_gather"] else k,
               "instructions": sum(instruction(rng, index == count - 1) << 32 * index
                                   for index in range(count))}
    for name in ("a", "b", "c", "y0", "y1"):
        fields[f"{name}_address"] = unit * int(rng.integers(0, 1 << 14))
        fields[f"{name}_stride"] = unit * int(rng.choice([0, n, 2 * n, n + 3, k, m, 2 * m, 64]))
    return fields


def valid(config, fields):
    try:
        Command(config, fields | {"reserved": 0}).check()
    except ProgramError:
        return False
    return True


@pytest.mark.parametrize("fmt, options", BUILDS)
def test_no_random_command_is_below_the_bound(fmt, options):
    config, rng = AcceleratorConfig(fmt, **options), np.random.default_rng(17)
    used, limits, ratios = Counter(), Counter(), []
    while len(ratios) < PROGRAMS:
        drawn = [command(rng, int(rng.choice([1, 2, 16]))) for _ in range(60)]
        program = [fields for fields in drawn if valid(config, fields)][:3]
        if not program:
            continue
        used.update(name for fields in program for name in FLAGS if fields[name])
        memory = Memory(latency=int(rng.choice([1, 2, 30, 100])))
        run = simulate(config, program, memory=memory)
        assert run.bound.cycles <= run.active, (memory, program)
        ratios.append(run.bound.ratio(run.active))
        limits[run.bound.limit] += 1
    print(f"{fmt} {options}: {len(ratios)} programs, ratios {min(ratios):.3f} to "
          f"{max(ratios):.3f}, {dict(limits)}")
    assert min(ratios) < 2
    assert set(used) == set(FLAGS) and len(limits) >= 4
