import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.issue.planner import Planner
from hdl.spec.commands import COMMAND, COMMAND_BYTES, Opcode, pack
from hdl.spec.config import AcceleratorConfig

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


def tiles(config, elements):
    return -(-elements // config.dim)


@pytest.mark.parametrize("config", [
    AcceleratorConfig(), AcceleratorConfig(dim=4, input_depth=64, weight_depth=8, acc_depth=16,
                                           row_depth=8)])
def test_every_block_fits_its_banks(config):
    rng = np.random.default_rng(1)
    commands = []
    for _ in range(CASES):
        m, k, n = (int(2 ** rng.uniform(0, 16)) for _ in range(3))
        gemm = bool(rng.integers(2))
        stored = int(rng.integers(2))
        fields = {"opcode": Opcode.GEMM if gemm else Opcode.VECTOR, "m": m, "n": n,
                  "k": k if gemm else 1}
        commands.append((fields, int(rng.integers(2)), stored, int(rng.integers(1, 9))))
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
