"""The harness around a small real design: the accelerator's own memory floor and registers, with
a sequencer that copies rows instead of running programs."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.flat import ACCELERATOR_PORTS, Flat
from gen.leaves import Library
from hdl.bus import axi
from hdl.bus.read_engine import ReadEngine
from hdl.bus.write_engine import WriteEngine
from hdl.host.csr_block import CsrBlock
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from sim.harness.accelerator import DECERR, Accelerator, Fault, HungError
from sim.harness.stalls import CHANNELS, PROFILES, StallProfile

CONFIG = AcceleratorConfig(dim=4)
ROWS, ROW_BYTES, STRIDE, DISTANCE = 5, 301, 333, 0x1801


class Copier(wiring.Component):
    """Copies ROWS rows from the program address to DISTANCE bytes further on."""

    def __init__(self):
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "interrupt": Out(1),
            "s_axi_ctrl": In(axi.LiteSignature()),
            "m_axi_gmem": Out(axi.Signature(CONFIG.bus_bytes))})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        m.submodules.csr = csr = CsrBlock(CONFIG)
        m.submodules.read = read = ReadEngine(CONFIG, ("source", "other"))
        m.submodules.write = write = WriteEngine(CONFIG)
        wiring.connect(m, wiring.flipped(self.s_axi_ctrl), csr.axi)
        wiring.connect(m, read.axi, wiring.flipped(self.m_axi_gmem.read))
        wiring.connect(m, write.axi, wiring.flipped(self.m_axi_gmem.write))
        wiring.connect(m, read.counts, csr.counts.reader)
        wiring.connect(m, write.counts, csr.counts.writer)
        wiring.connect(m, read.source.beats, write.client.beats)
        m.d.comb += [sync.clk.eq(self.aclk), sync.rst.eq(~self.aresetn)]
        asked, sent = read.source.transfer, write.client.transfer
        for payload in (asked.payload, sent.payload):
            m.d.comb += [payload.row_bytes.eq(ROW_BYTES), payload.rows.eq(ROWS),
                         payload.stride.eq(STRIDE)]
        program = csr.program
        m.d.comb += [
            asked.payload.address.eq(program.address),
            sent.payload.address.eq(program.address + DISTANCE),
            program.failure.causes.eq(read.engine.failure.valid << ErrorCause.READ_ERROR
                                      | write.engine.failure.valid << ErrorCause.WRITE_ERROR),
            program.failure.address.eq(program.address),
            csr.counts.sequencer.cycles.eq(program.busy), program.reset_done.eq(1),
            self.interrupt.eq(csr.interrupt),
        ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(program.start):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [program.busy.eq(1), asked.valid.eq(1)]
                with m.If(asked.ready):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [program.busy.eq(1), sent.valid.eq(1)]
                with m.If(sent.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += program.busy.eq(1)
                with m.If(write.idle & read.engine.quiet):
                    m.d.comb += program.done.eq(1)
                    m.next = "IDLE"
        return m


@pytest.fixture(scope="module")
def verilog():
    library = Library()
    library.add(Flat(Copier(), ACCELERATOR_PORTS), "ottava")
    return library.verilog()


@pytest.fixture(scope="module")
def accelerator(verilog):
    return Accelerator(CONFIG, verilog=verilog)


def copied(memory, start):
    """The image after the copy, and which bytes it wrote."""
    after, written = memory.copy(), np.zeros(memory.size, bool)
    for row in range(ROWS):
        source = start + row * STRIDE
        target = slice(source + DISTANCE, source + DISTANCE + ROW_BYTES)
        after[target] = memory[source:source + ROW_BYTES]
        written[target] = True
    return after, written


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, 0x4000, dtype=np.uint8)


@pytest.mark.parametrize("profile", PROFILES)
def test_copies_under_every_profile(accelerator, profile):
    cycles = 0
    for seed, start in enumerate((0, 7, 0xFD3)):
        memory = image(seed)
        expected, written = copied(memory, start)
        result = accelerator.run(memory, 0x10_0000_0000 + start, 0x10_0000_0000,
                                 stalls=PROFILES[profile], seed=seed, max_cycles=200_000)
        assert (result.error, result.status, result.violations) == (None, 0b10, [])
        assert np.array_equal(memory, expected)
        assert np.array_equal(result.written, written.astype(np.uint8))
        for name in ("read_beats", "write_beats", "read_bursts", "write_bursts"):
            assert result.counters[name] == result.bus[name] > 0
        cycles += result.cycles
    print(f"{profile}: {cycles} cycles")


def test_ideal_profile_is_as_fast_as_promised(accelerator):
    result = accelerator.run(image(), 0)
    beats = result.bus["read_beats"]
    # 30 cycles to the first beat, then one per cycle, then as long for the last response.
    assert beats + 60 <= result.cycles <= beats + 90
    assert 1 < result.bus["most_reads_outstanding"] <= 16


def test_progress_is_told_and_changes_nothing(accelerator, monkeypatch):
    monkeypatch.setattr("sim.harness.accelerator._PROGRESS_CYCLES", 7)
    told = []
    result = accelerator.run(image(), 0, progress=lambda cycle, written: told.append(
        (cycle, int(written.sum()))))
    plain = accelerator.run(image(), 0)
    assert (result.cycles, result.counters) == (plain.cycles, plain.counters)
    assert [cycle for cycle, _ in told] == list(range(7, result.cycles + 1, 7))
    assert 0 == told[0][1] < told[-1][1] and told == sorted(told)
    with pytest.raises(HungError, match="no interrupt within 20 cycles"):
        accelerator.run(image(), 0, max_cycles=20, progress=lambda *state: None)


def test_same_seed_same_cycles(accelerator):
    runs = [accelerator.run(image(), 0, stalls=PROFILES["heavy"], seed=seed).cycles
            for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_faults_are_answered_and_the_next_run_is_clean(accelerator):
    start, target = 0x100, 0x100 + DISTANCE
    for fault, cause in ((Fault(start + 40, start + 41), ErrorCause.READ_ERROR),
                         (Fault(target + 40, target + 41, DECERR), ErrorCause.WRITE_ERROR)):
        result = accelerator.run(image(), start, faults=[fault])
        assert (result.error, result.error_address) == (cause, start)
        assert result.written[target + 40] == (cause == ErrorCause.READ_ERROR)
        assert accelerator.run(image(), start).error is None


def test_outside_the_image_is_a_decode_error(accelerator):
    result = accelerator.run(image(), 0x4000 - DISTANCE - ROW_BYTES)
    assert result.errors == (ErrorCause.WRITE_ERROR,)
    assert result.violations == []


def test_a_silent_bus_is_reported_and_a_reset_heals_it(accelerator):
    silent = StallProfile("silent", stall={"b": 1.0})
    with pytest.raises(HungError, match="no interrupt within 3000 cycles"):
        accelerator.run(image(), 0, stalls=silent, max_cycles=3000)


def test_broken_rules_are_seen(verilog):
    # The negative control: the design with WLAST stuck at 0.
    broken = verilog.replace("assign m_axi_gmem_wlast", "wire unused_wlast;\n"
                             "  assign m_axi_gmem_wlast = 1'h0;\n  assign unused_wlast")
    assert broken != verilog
    result = Accelerator(CONFIG, verilog=broken).run(image(), 0, max_cycles=100_000)
    assert any("wlast is missing" in line for line in result.violations)


def test_memory_must_be_bytes(accelerator):
    with pytest.raises(TypeError, match="memory must be a contiguous vector of uint8"):
        accelerator.run(np.zeros(64, np.int16), 0)


@pytest.mark.parametrize("values, message", [
    ({"stall": {"x": 0.5}}, "stall channel must be one of ar, r, aw, w, b, not 'x'"),
    ({"stall": {"ar": 2.0}}, "stall must be probabilities"),
    ({"latency": (0, 3)}, "latency must be a range from 1 up"),
    ({"outstanding": 0}, "outstanding must be at least 1, not 0"),
])
def test_profiles_are_validated(values, message):
    with pytest.raises(ValueError, match=message):
        StallProfile("bad", **values)


def test_profiles_cover_every_channel():
    assert set(PROFILES["heavy"].stall) == set(CHANNELS)


def test_coverage_is_a_matter_of_the_build(verilog, accelerator, tmp_path):
    with pytest.raises(ValueError, match="path must be given to a build with coverage"):
        accelerator.write_coverage(tmp_path / "none.dat")
    counted = Accelerator(CONFIG, verilog=verilog, coverage=True, optimise="-O0")
    counted.run(image(), 0)
    counted.write_coverage(tmp_path / "some.dat")
    lines = (tmp_path / "some.dat").read_text().splitlines()[1:]
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines]
    assert len(counts) > 100 and 0 in counts and max(counts) > 1000
