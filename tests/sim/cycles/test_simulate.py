"""What the cycle model says without a design to compare with."""

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from compiler.program.instruction import Instruction, instruction_words
from compiler.program.records import commands
from hdl.spec.commands import Destination, Opcode
from hdl.spec.config import AcceleratorConfig
from sim.cycles.cases import cases
from sim.cycles.plan import plans
from sim.cycles.simulate import IDEAL, Memory, simulate

CONFIG = AcceleratorConfig("posit8", dim=4)
STORE = instruction_words([Instruction(destination=Destination.MEMORY)])


def gemm(m, k, n, **changes):
    return {"opcode": Opcode.GEMM, "m": m, "k": k, "n": n, "a_stride": k, "b_address": 1 << 16,
            "b_stride": n, "c_address": 1 << 20, "c_stride": n, "instructions": STORE} | changes


def program(name):
    builder = ProgramBuilder(CONFIG)
    cases(4)[name](builder)
    memory, address = builder.build()
    return [fields for _, fields in commands(memory, address)], address


@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (12, 20, 8), (70, 33, 45)])
def test_every_row_of_every_tile_is_fed_and_every_element_leaves(m, k, n):
    run = simulate(CONFIG, [gemm(m, k, n)])
    tiles = -(-k // 4) * -(-n // 4)
    assert run.total("array_rows") == m * tiles
    assert run.total("vector_beats") == m * -(-n // 4)
    assert run.counts["end"].argmax() == 0
    assert run.active < run.cycles


def test_a_slower_memory_costs_cycles_and_the_cause_is_told():
    fields, address = program("gemm 2 rows")
    fast, slow = (simulate(CONFIG, fields, memory=memory, address=address)
                  for memory in (IDEAL, Memory(latency=300)))
    assert slow.active >= fast.active + 270
    assert slow.total("stall_weight") >= fast.total("stall_weight") + 270
    assert slow.total("array_rows") == fast.total("array_rows")


def test_few_bursts_under_way_cost_bandwidth():
    fields, address = program("gemm K of many spans")
    few = simulate(CONFIG, fields, memory=Memory(outstanding=1), address=address)
    assert few.active > 1.5 * simulate(CONFIG, fields, address=address).active


def test_a_fence_keeps_commands_apart():
    overlapping, _ = program("program: 4 GEMMs")
    fenced, _ = program("program: 4 GEMMs, fenced")
    free, apart = (simulate(CONFIG, fields).counts for fields in (overlapping, fenced))
    assert free["start"][1] < free["end"][0]
    starts, ends = apart["start"][0:7:2], apart["end"][0:7:2]
    assert np.all(starts[1:] > ends[:-1])


def test_the_same_program_takes_the_same_cycles():
    fields, address = program("program: mixed")
    first, second = (simulate(CONFIG, fields, address=address) for _ in range(2))
    assert first.cycles == second.cycles
    assert np.array_equal(first.counts, second.counts)


@pytest.mark.parametrize("fields, message", [
    ({"opcode": Opcode.COPY}, "command 0 must be a GEMM, VECTOR, FENCE or END, not opcode"),
    (gemm(1, 0, 1), "command 0 must have M, K and N from 1 to 16777215, not 1, 0, 1"),
    (gemm(1, 1, 1 << 24), "command 0 must have M, K and N from 1 to 16777215"),
    (gemm(1, 1, 2049, row_max=1), "command 0 must keep its rows on chip: at most 2048 columns"),
])
def test_what_the_accelerator_refuses_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        simulate(CONFIG, [fields])


def test_a_limit_ends_the_run():
    with pytest.raises(TimeoutError, match="the program must end within 50 cycles"):
        simulate(CONFIG, [gemm(8, 8, 8)], limit=50)


@pytest.mark.parametrize("values", [{"latency": 0}, {"outstanding": 0}])
def test_a_memory_must_answer(values):
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        Memory(**values)


def test_plans_follow_the_rules_of_the_architecture():
    config = AcceleratorConfig("posit8", dim=16)
    wide = {"opcode": Opcode.VECTOR, "m": 9, "k": 1, "n": 16 * 513, "instructions": STORE}
    table = plans(config, [gemm(128, 768, 768), gemm(128, 64, 128), wide])
    assert list(table["resident"]) == [0, 1, 1]
    assert list(table["chunk"]) == [128, 64, 128]
    assert (1 << table["block_log2"]).tolist() == [64, 64, 16]
    assert table["k_span"][:2].tolist() == [256, 64]
