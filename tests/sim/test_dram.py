"""The DRAM behind the bus: its rules by hand, and the harness's against the cycle model's."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from compiler.program.records import commands
from hdl.spec.config import AcceleratorConfig
from sim.cycles import dram
from sim.cycles.cases import cases
from sim.cycles.check import compare
from sim.cycles.read import READ
from sim.cycles.simulate import Memory, simulate
from sim.cycles.write import WRITE
from sim.harness.dram import Dram, memory_named
from support.builds import tiny

CASES = ("gemm 3×5×7", "gemm one row tile", "gemm Bᵀ at odd addresses", "gemm softmax, mask",
         "vector LayerNorm", "vector transpose to BF16", "program: 4 GEMMs, fenced")


@pytest.mark.parametrize("times", [Dram(), Dram(latency=30, burst=0, miss=0, turn=0, refresh=0),
                                   Dram(latency=37, burst=9, miss=40, banks=2, row_beats=16,
                                        gathered=3, refresh=200, refresh_every=500)])
def test_harness_and_model_agree_on_every_cycle(times):
    rows = compare(tiny("posit8"), CASES, behind=Memory(dram=times))
    assert [(row.name, row.rtl, row.differing) for row in rows] \
        == [(row.name, row.model, []) for row in rows]
    assert len(rows) == len(CASES)
    slower = compare(tiny("posit8"), CASES[:1], behind=Memory(dram=replace(times, latency=300)))
    assert slower[0].rtl > rows[0].rtl + 200


def test_a_schedule_by_hand(monkeypatch):
    """When data begin, and answers come, worked out from what ``Dram`` says."""
    monkeypatch.setattr(dram, "_serve", dram._serve.py_func)
    d, read, write = (np.recarray(1, kind) for kind in (dram.DRAM, READ, WRITE))
    for own in (d, read, write):
        own.view(np.uint8)[:] = 0
    times = Dram(latency=10, burst=4, miss=12, banks=2, row_beats=16, turn=5, gathered=2,
                 refresh=20, refresh_every=100)
    for name, value in {**asdict(times), "started": -1}.items():
        d[name] = value
    found = []
    for cycle, writes, beat, beats in (
            (0, False, 3, 4), (1, False, 8, 8), (2, False, 16, 2), (3, False, 32, 4),
            (40, True, 33, 4), (41, True, 37, 1), (80, True, 34, 4),
            (86, False, 40, 4), (130, False, 16, 1)):
        slot = d[0].writes if writes else d[0].reads
        if writes:
            write[0].burst_beat[slot], write[0].burst_beats[slot] = beat, beats
            write[0].answers += 1
        else:
            read[0].beat[slot], read[0].beats[slot] = beat, beats
            read[0].accepted += 1
        dram.dram_step.py_func(d[0], read[0], write[0], cycle)
        found.append((write if writes else read)[0].due[slot])
    assert found == [
        0 + 12 + 10,  # opens row 0 of bank 0
        26 + 4,  # in that row: the bus, free after 22..25, and what a burst costs
        38 + 4,  # bank 1 opens its row meanwhile
        28 + 12 + 10,  # another row of bank 0, whose last datum was asked for at 37 - 10
        54 + 4 + 5 + 4,  # a write, answered after its data: the bus turns
        67 + 4 + 1,  # the second of two gathered ones
        80 + 10 + 4,  # the third turns it again, which is over: its latency counts
        0 + 100 + 20 + 12,  # would be under way at 100: after the refresh, its row opened anew
        130 + 12 + 10]  # and that of bank 1


def copy(**times):
    """The run of a copy of 50 rows of 70 bytes, a burst of 5 or 6 beats each to read and to write,
    on a DRAM without any costs but ``times``."""
    builder = ProgramBuilder(AcceleratorConfig("posit8", dim=4))
    cases(4)["vector copy"](builder)
    memory, address = builder.build()
    nothing = {"latency": 100, "burst": 0, "miss": 0, "turn": 0, "refresh": 0}
    return simulate(builder.config, [fields for _, fields in commands(memory, address)],
                    address=address, memory=Memory(dram=Dram(**nothing | times)))


def test_what_a_burst_a_row_a_turn_and_a_refresh_cost():
    free, bursts = copy(), copy(burst=40)
    served = bursts.total("read_bursts") + 50
    beats = bursts.total("read_beats") + bursts.total("write_beats")
    assert 50 < bursts.total("read_bursts") < 60 and free.active < 1200
    assert 0 <= bursts.cycles - (40 * served + beats) < 500  # of latencies, and of one bus
    # Reads and writes in one bank close each other's rows; in several they need not.
    alone, parted = (copy(miss=60, row_beats=16, banks=banks).active for banks in (1, 64))
    assert alone > 60 * 60 and free.active < parted < alone / 2
    turned, gathered = (copy(turn=80, gathered=count).active for count in (1, 25))
    assert turned > 50 * 80 and gathered < turned / 3
    refreshed = copy(refresh=300, refresh_every=400).active
    assert refreshed > free.active + 3 * 300


def test_names():
    assert memory_named("ideal") is None and memory_named("dram") == Dram()
    assert memory_named("dram:burst=8,latency=200") == Dram(burst=8, latency=200)
    for text, told in (("sram", "ideal, dram or dram:NAME=N,..., not 'sram'"),
                       ("ideal:burst=1", "not 'ideal:burst=1'"),
                       ("dram:bursts=1", "latency, burst, .*not 'bursts=1'"),
                       ("dram:banks=0", "banks of a DRAM must be from 1 to 64, not 0"),
                       ("dram:refresh_every=9", "refresh_every of a DRAM must be from 137 ")):
        with pytest.raises(ValueError, match=told):
            memory_named(text)
