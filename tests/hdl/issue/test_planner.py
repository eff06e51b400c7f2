import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.issue.planner import Planner
from hdl.spec.commands import COMMAND, COMMAND_BYTES, Opcode, pack
from hdl.spec.config import COUNT_MOST, AcceleratorConfig
from hdl.spec.timing import cut

CASES = 150


def plans(config, commands):
    """Plan and ``oversize`` of each (fields, rowwise, stored, count)."""
    planner = Planner(config)
    found = []

    async def bench(ctx):
        for fields, rowwise, stored, count in commands:
            record = int.from_bytes(pack(COMMAND, fields, COMMAND_BYTES), "little")
            for port, value in (("record", record), ("rowwise", rowwise), ("stored", stored),
                                ("count", count)):
                ctx.set(getattr(planner, port), value)
            for _ in range(Planner.LATENCY):
                await ctx.tick()
            names = ("block_log2", "chunk", "k_span", "resident", "streamed", "passes")
            plan = {name: ctx.get(getattr(planner.plan, name)) for name in names}
            found.append((plan, ctx.get(planner.oversize)))

    simulator = Simulator(planner)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


CONFIGS = [AcceleratorConfig(),
           AcceleratorConfig(dim=4, input_depth=64, weight_depth=8, acc_depth=16, row_depth=8)]


def random_commands(seed):
    """(fields, rowwise, stored, count) of many sizes."""
    rng = np.random.default_rng(seed)
    for case in range(CASES):
        # Every eighth count is the largest: sizes and shifts must hold that too.
        m, k, n = (int(2 ** rng.uniform(0, 24 if case % 2 else 16)) if rng.integers(8) else
                   COUNT_MOST for _ in range(3))
        gemm = bool(rng.integers(2))
        stored = int(rng.integers(2))
        fields = {"opcode": Opcode.GEMM if gemm else Opcode.VECTOR, "m": m, "n": n,
                  "k": k if gemm else 1}
        yield fields, int(rng.integers(2)), stored, int(rng.integers(1, 9))


def tiles(config, elements):
    return -(-elements // config.dim)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_block_fits_its_banks(config):
    commands = list(random_commands(1))
    streamed = refused = cut = 0
    for (fields, rowwise, stored, count), (plan, oversize) in zip(
            commands, plans(config, commands), strict=True):
        rows, gemm = 1 << plan["block_log2"], fields["opcode"] == Opcode.GEMM
        fits = tiles(config, fields["n"]) <= config.acc_depth
        assert oversize == bool(stored and not fits)
        if oversize:
            refused += 1
            continue
        assert plan["streamed"] == bool(rowwise and not fits)
        assert plan["passes"] == (count if plan["streamed"] else 1)
        assert rows <= config.row_depth
        assert rows * tiles(config, min(plan["chunk"], fields["n"])) <= config.acc_depth
        assert rows < 2 * fields["m"]
        if rowwise and not plan["streamed"]:
            assert plan["chunk"] >= fields["n"]
        if plan["streamed"]:
            assert rows == 1
        if gemm:
            span = min(plan["k_span"], fields["k"])
            assert rows * tiles(config, span) <= config.input_depth
            assert plan["resident"] == (plan["k_span"] >= fields["k"])
            # K gives way to the rows that share weights.
            cut += not plan["resident"]
            if not rowwise:
                wanted = min(4 * config.dim, config.row_depth, config.input_depth, fields["m"],
                             config.acc_depth // config.panel_columns)
                assert rows >= wanted
        streamed += plan["streamed"]
    print(f"{len(commands)} commands, {streamed} streamed, {refused} refused, {cut} cut in K")
    assert streamed and refused and cut


@pytest.mark.parametrize("config", CONFIGS)
def test_plans_are_those_of_the_shared_rule(config):
    commands = [command for command in random_commands(2)
                if not (command[2] and tiles(config, command[0]["n"]) > config.acc_depth)]
    for (fields, rowwise, stored, _), (plan, _) in zip(
            commands, plans(config, commands), strict=True):
        rule = cut(config, gemm=fields["opcode"] == Opcode.GEMM, rowwise=bool(rowwise),
                   stored=bool(stored), m=fields["m"], k=fields["k"], n=fields["n"])
        assert {name: getattr(rule, name) for name in
                ("block_log2", "chunk", "k_span", "resident", "streamed")} \
            == {name: plan[name] for name in plan if name != "passes"}
    assert len(commands) > CASES // 2


@pytest.mark.parametrize("rowwise, stored, shape, rows, chunk, k_span, resident, streamed", [
    (False, False, (128, 768, 768), 64, 128, 256, False, False),
    (False, False, (128, 128, 256), 64, 64, 128, True, False),
    (True, False, (128, 64, 128), 64, 128, 64, True, False),
    (True, False, (9, 16, 16 * 513), 1, 8192, 16, True, True),
    (True, True, (3, 100, 8192), 1, 8192, 128, True, False),
    (False, False, (1, 1, 1), 1, 64, 16, True, False),
])
def test_the_shared_rule_by_literal(rowwise, stored, shape, rows, chunk, k_span, resident,
                                    streamed):
    m, k, n = shape
    rule = cut(AcceleratorConfig(), gemm=True, rowwise=rowwise, stored=stored, m=m, k=k, n=n)
    assert (1 << rule.block_log2, rule.chunk, rule.k_span, rule.resident, rule.streamed) \
        == (rows, chunk, k_span, resident, streamed)
