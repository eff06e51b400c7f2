"""A memory and a master for the whole accelerator that others wrote (cocotbext-axi)."""

import logging
from collections.abc import Awaitable, Iterable, Iterator, Sequence

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, SimTimeoutError, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave
from cocotbext.axi.address_space import Region
from cocotbext.axi.stream import StreamPause

from hdl.spec.registers import IDENTITY, REGISTERS
from sim.bench.support import CLOCK_NS, put, sample, step, surroundings
from sim.campaigns.programs import Case, stray_writes

__all__ = ["DONE", "FAILED", "OFFSETS", "Client", "client_of"]

LIMIT = 60_000
OFFSETS = {register.name: register.offset for register in REGISTERS}
DONE, FAILED = 0b10, 0b100  # of the register STATUS


class Memory(Region):
    """The image at its addresses; an access anywhere else, or to ``broken``, is an error."""

    def __init__(self) -> None:
        super().__init__(2**64)
        self.load(Case(np.zeros(64, np.uint8), 0, 0, (), ""))

    def load(self, case: Case) -> None:
        self.bytes, self.first = case.memory, case.base
        self.written = np.zeros_like(case.memory)
        self.broken: tuple[int, int] | None = None

    def _place(self, address: int, length: int) -> slice:
        start = address - self.first
        if start < 0 or start + length > len(self.bytes):
            raise IndexError(f"{address:#x} is outside the image")
        if self.broken and self.broken[0] < address + length and address < self.broken[1]:
            raise IndexError(f"{address:#x} is broken")
        return slice(start, start + length)

    async def _read(self, address: int, length: int, **_) -> bytes:
        return self.bytes[self._place(address, length)].tobytes()

    async def _write(self, address: int, data: bytes, **_) -> None:
        place = self._place(address, len(data))
        self.bytes[place] = np.frombuffer(data, np.uint8)
        self.written[place] += 1


class Client:
    """A master of the control port and a memory on the bus; with ``pauses`` every channel of both
    is idle at times. ``control_ps``: period of the control port's clock, where it has its own.

    ``core_clock``: what drives the accelerator's.
    """

    def __init__(self, dut, rng: np.random.Generator, pauses: bool,
                 control_ps: int = 1000 * CLOCK_NS) -> None:
        self.dut, self.rng, self.memory = dut, rng, Memory()
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)
        clocked = {"clock": dut.aclk, "reset": dut.aresetn, "reset_active_level": False}
        self.core_clock = Clock(dut.aclk, CLOCK_NS, unit="ns")
        self.core_clock.start()
        self.resets = {"aresetn": dut.aclk}
        control = clocked
        if surroundings().control_clock:
            self.resets["s_axi_ctrl_aresetn"] = dut.s_axi_ctrl_aclk
            clock = Clock(dut.s_axi_ctrl_aclk, control_ps, unit="ps")
            clock.start(start_high=bool(rng.integers(2)))
            control = {"clock": dut.s_axi_ctrl_aclk, "reset": dut.s_axi_ctrl_aresetn,
                       "reset_active_level": False}
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_ctrl"), **control)
        slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi_gmem"), target=self.memory, **clocked)
        for side, domain in ((self.host, control), (slave, clocked)) if pauses else ():
            writes, reads = side.write_if, side.read_if
            cocotb.start_soon(self._pause(domain["clock"], (
                writes.aw_channel, writes.w_channel, writes.b_channel,
                reads.ar_channel, reads.r_channel)))

    async def _pause(self, clock, channels: Sequence[StreamPause]) -> None:
        """One task for all channels of a side: with a task for each (``set_pause_generator``) a
        bench spends half of its time on going from one to the next."""
        edge = RisingEdge(clock)
        for pauses in zip(*(self._pauses() for _ in channels), strict=True):
            for channel, paused in zip(channels, pauses, strict=True):
                channel.pause = paused
            await edge

    def _pauses(self) -> Iterator[bool]:
        """Runs of idle cycles of a share that changes from time to time."""
        while True:
            share = float(self.rng.choice([0.0, 0.1, 0.5, 0.9]))
            for paused in self.rng.random(int(self.rng.integers(20, 200))) < share:
                yield bool(paused)

    async def power_up(self) -> None:
        await self.reset(tuple(self.resets), 4)
        assert await self.read("IDENTITY") == IDENTITY

    async def reset(self, names: Iterable[str], cycles: int, ended: Iterable[Awaitable] = ()
                    ) -> None:
        """Hold resets for ``cycles`` of their clocks, and until what is awaited has ended, from now
        on; each ends with its clock."""
        put(self.dut, **dict.fromkeys(names, 0))
        for one in ended:
            await one
        for name in names:
            for _ in range(cycles):
                await RisingEdge(self.resets[name])
        for name in names:
            await step(self.resets[name])
            put(self.dut, **{name: 1})
            await step(self.resets[name])

    async def read(self, name: str) -> int:
        return await self.host.read_dword(OFFSETS[name])

    async def write(self, name: str, value: int) -> None:
        await self.host.write_dword(OFFSETS[name], value)

    async def begin(self, case: Case) -> None:
        self.memory.load(case)
        await self.write("PROGRAM_LOW", case.address & 0xFFFFFFFF)
        await self.write("PROGRAM_HIGH", case.address >> 32)
        for events in ("ERROR", "INTERRUPT"):  # those of the program before
            await self.write(events, 0xFFFFFFFF)
        assert not sample(self.dut, "interrupt")[0]
        await self.write("INTERRUPT_ENABLE", 0b11)
        await self.write("CONTROL", 1)

    async def ended(self, limit: int = LIMIT) -> int:
        """Cycles until the interrupt is up."""
        started = get_sim_time("ns")
        if not sample(self.dut, "interrupt")[0]:
            try:
                await with_timeout(RisingEdge(self.dut.interrupt), limit * CLOCK_NS, "ns")
            except SimTimeoutError:
                raise AssertionError(f"no interrupt within {limit} cycles") from None
        await step(self.dut.aclk)
        return int(get_sim_time("ns") - started) // CLOCK_NS

    async def run(self, case: Case, limit: int = LIMIT) -> int:
        """Start a program; cycles until it has ended."""
        await self.begin(case)
        return await self.ended(limit)

    async def same(self, label: str, expected: np.ndarray) -> None:
        """The program has reached its end and every byte of the memory is as ``expected``."""
        status, error = await self.read("STATUS"), await self.read("ERROR")
        assert status == DONE, f"{label}: STATUS {status:#x}, ERROR {error:#x}"
        wrong = np.flatnonzero(self.memory.bytes != expected)
        assert not wrong.size, f"{label}: {wrong.size} bytes differ, first {wrong[:5]}"

    async def right(self, case: Case, expected: np.ndarray) -> int:
        """Bytes of results after ``run``, all as ``expected``, and nothing else written."""
        await self.same(case.label, expected)
        stray = stray_writes(case, np.minimum(self.memory.written, 1))
        assert not stray, f"{case.label}: {stray}"
        return sum(tensor.rows * tensor.row_bytes for tensor in case.outputs)


async def client_of(dut, rng: np.random.Generator, pauses: bool = True,
                    control_ps: int = 1000 * CLOCK_NS) -> Client:
    """The client of a design after its reset."""
    client = Client(dut, rng, pauses, control_ps)
    await client.power_up()
    return client
