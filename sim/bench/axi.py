"""An AXI4 memory with random stalls and an AXI4-Lite host, for cocotb.

Both move once per cycle: they drive in the middle of it (falling edge), let the design settle, and
take what the next rising edge will transfer.
"""

from collections import deque

import cocotb
import numpy as np

from hdl.spec.registers import REGISTERS
from sim.bench.support import put, sample, settle, step
from sim.harness.axi_rules import AxiRules
from sim.harness.stalls import CHANNELS, StallProfile

__all__ = ["AxiMemory", "LiteHost"]

DECERR = 3
_OFFSETS = {register.name: register.offset for register in REGISTERS}
_PAYLOADS = {"ar": ("addr", "len", "size", "burst", "id"),
             "aw": ("addr", "len", "size", "burst", "id"), "w": ("data", "strb", "last")}


class AxiMemory:
    """Serves ``m_axi_gmem_*`` of ``dut`` from ``memory`` at ``base``; outside it DECERR.

    Reads sample when accepted, writes land when answered; answers are in order. ``written``
    counts each byte's writes. A broken rule (``AxiRules``) fails the test.
    """

    def __init__(self, dut, memory: np.ndarray, base: int, profile: StallProfile,
                 rng: np.random.Generator) -> None:
        self.dut, self.memory, self.base = dut, memory, base
        self.profile, self.rng = profile, rng
        self.bytes = len(dut.m_axi_gmem_wstrb)
        self.written = np.zeros_like(memory)
        self.cycle = 0
        self._stalled = dict.fromkeys(CHANNELS, 0)
        self._rules = {channel: AxiRules(self.bytes) for channel in ("ar", "aw")}
        self._beats: deque[tuple[int, int, int, int]] = deque()  # due, data, response, last
        self._bursts: deque[tuple[int, int]] = deque()
        self._data: deque[tuple[int, int, int]] = deque()
        self._answers: deque[tuple[int, int, list]] = deque()
        self._reads = 0
        self._r: tuple[int, int, int, int] | None = None
        self._b: int | None = None
        cocotb.start_soon(self._serve())

    def _port(self, name: str) -> int:
        return sample(self.dut, f"m_axi_gmem_{name}")[0]

    def _stall(self, channel: str) -> bool:
        if self._stalled[channel]:
            self._stalled[channel] -= 1
            return True
        if self.rng.random() >= self.profile.stall.get(channel, 0):
            return False
        self._stalled[channel] = int(self.rng.geometric(1 / self.profile.length.get(channel, 1)))
        return True

    def _due(self) -> int:
        return self.cycle + int(self.rng.integers(*self.profile.latency, endpoint=True))

    async def _serve(self) -> None:
        while True:
            await step(self.dut.aclk)
            self.cycle += 1
            self._drive()
            await settle()
            self._check()
            self._take()

    def _drive(self) -> None:
        stalled = {channel: self._stall(channel) for channel in CHANNELS}
        if self._r is None and self._beats and not stalled["r"]:
            if self.cycle >= self._beats[0][0]:
                self._r = self._beats.popleft()
        if self._b is None and self._answers and not stalled["b"]:
            if self.cycle >= self._answers[0][0]:
                _, address, beats = self._answers.popleft()
                self._b = self._write(address, beats)
        _, data, response, last = self._r or (0, 0, 0, 0)
        limit = self.profile.outstanding
        writes = len(self._bursts) + len(self._answers)
        put(self.dut, **{f"m_axi_gmem_{name}": value for name, value in {
            "arready": not stalled["ar"] and self._reads < limit,
            "rvalid": self._r is not None, "rdata": data, "rresp": response, "rlast": last,
            "rid": 0, "awready": not stalled["aw"] and writes < limit,
            "wready": not stalled["w"], "bvalid": self._b is not None, "bresp": self._b or 0,
            "bid": 0}.items()})

    def _check(self) -> None:
        for channel, names in _PAYLOADS.items():
            valid = self._port(f"{channel}valid")
            payload = tuple(self._port(channel + name) for name in names) if valid else ()
            self._rules["ar" if channel == "ar" else "aw"].stable(
                channel, valid, self._port(f"{channel}ready"), payload)

    def _address(self, channel: str) -> tuple[int, int] | None:
        if not (self._port(f"{channel}valid") and self._port(f"{channel}ready")):
            return None
        address, beats = self._port(f"{channel}addr"), self._port(f"{channel}len") + 1
        self._rules[channel].address(address, beats, self._port(f"{channel}size"),
                                     self._port(f"{channel}burst"))
        return address, beats

    def _take(self) -> None:
        if self._r and self._port("rready"):
            self._reads -= self._r[3]
            self._rules["ar"].outstanding -= self._r[3]
            self._r = None
        if self._b is not None and self._port("bready"):
            self._b = None
            self._rules["aw"].outstanding -= 1
        if (read := self._address("ar")) is not None:
            self._read(*read)
        if (write := self._address("aw")) is not None:
            self._bursts.append(write)
            self._rules["aw"].write_burst(write[1])
        if self._port("wvalid") and self._port("wready"):
            self._data.append((self._port("wdata"), self._port("wstrb"), self._port("wlast")))
            self._rules["aw"].write_beat(self._data[-1][2])
        while self._bursts and len(self._data) >= self._bursts[0][1]:
            address, count = self._bursts.popleft()
            beats = [self._data.popleft() for _ in range(count)]
            self._answers.append((self._due(), address, beats))

    def _read(self, address: int, beats: int) -> None:
        self._reads += 1
        due = self._due()
        for beat in range(beats):
            first = (address // self.bytes + beat) * self.bytes - self.base
            inside = 0 <= first < self.memory.size
            piece = self.memory[max(first, 0):max(first + self.bytes, 0)]
            data = int.from_bytes(piece.tobytes(), "little") if inside else 0
            self._beats.append((due, data, 0 if inside else DECERR, int(beat == beats - 1)))

    def _write(self, address: int, beats: list[tuple[int, int, int]]) -> int:
        response = 0
        for number, (data, strobe, _) in enumerate(beats):
            first = (address // self.bytes + number) * self.bytes - self.base
            for lane in range(self.bytes):
                if not strobe >> lane & 1:
                    continue
                if not 0 <= first + lane < self.memory.size:
                    response = DECERR
                    continue
                self.memory[first + lane] = data >> 8 * lane & 0xFF
                self.written[first + lane] += 1
        return response


class LiteHost:
    """Reads and writes registers through ``s_axi_ctrl_*``; every response must be OKAY."""

    LIMIT = 1000

    def __init__(self, dut, rng: np.random.Generator) -> None:
        self.dut, self.rng = dut, rng
        self._put(awvalid=0, wvalid=0, bready=0, arvalid=0, rready=0, awaddr=0, wdata=0, wstrb=0,
                  araddr=0, awprot=0, arprot=0)

    def _put(self, **values: int) -> None:
        put(self.dut, **{f"s_axi_ctrl_{name}": value for name, value in values.items()})

    def _port(self, name: str) -> int:
        return sample(self.dut, f"s_axi_ctrl_{name}")[0]

    def _both(self, channel: str) -> bool:
        return bool(self._port(f"{channel}valid") and self._port(f"{channel}ready"))

    async def write(self, register: str, value: int) -> None:
        """Address and data in any order."""
        offset, done = _OFFSETS[register], set[str]()
        for _ in range(self.LIMIT):
            await step(self.dut.aclk)
            self._put(awaddr=offset, wdata=value, wstrb=0xF, bready=done == {"aw", "w"},
                      **{f"{channel}valid": channel not in done and (
                          self.rng.random() < 0.5 or self._port(f"{channel}valid"))
                         for channel in ("aw", "w")})
            await settle()
            done |= {channel for channel in ("aw", "w") if self._both(channel)}
            if self._both("b"):
                assert self._port("bresp") == 0, f"write of {register} refused"
                await step(self.dut.aclk)
                self._put(bready=0)
                return
        raise AssertionError(f"no answer to a write of {register}")

    async def read(self, register: str) -> int:
        done = False
        for _ in range(self.LIMIT):
            await step(self.dut.aclk)
            self._put(araddr=_OFFSETS[register], arvalid=not done,
                      rready=done and self.rng.random() < 0.5)
            await settle()
            done = done or self._both("ar")
            if self._both("r"):
                assert self._port("rresp") == 0, f"read of {register} refused"
                value = self._port("rdata")
                await step(self.dut.aclk)
                self._put(rready=0)
                return value
        raise AssertionError(f"no answer to a read of {register}")
