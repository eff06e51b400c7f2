"""AXI4 slaves with random stalls, for Amaranth's simulator."""

import random
from collections import deque

from sim.harness.axi_rules import AxiRules

__all__ = ["ReadSlave", "WriteSlave"]


class Slave:
    """Common parts of the two slaves: a memory, a source of chance, the rules."""

    def __init__(self, bus, memory, *, seed=0, stall=0.0, latency=4, base=0):
        self.bus, self.memory, self.base = bus, memory, base
        self.chance = random.Random(seed)
        self.stall, self.latency = stall, latency
        self.now = 0
        self.frozen = False
        self.fail_beats = set()
        self.bus_bytes = len(bus.rdata if hasattr(bus, "rdata") else bus.wdata) // 8
        self.rules = AxiRules(self.bus_bytes)

    def willing(self):
        return not self.frozen and self.chance.random() >= self.stall


class ReadSlave(Slave):
    """Channels AR and R. ``fail_beats``: numbers of beats answered with SLVERR."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.queue: deque = deque()
        self.offered = None
        self.beats = 0
        self.addresses = []

    def drive(self, ctx):
        bus = self.bus
        ctx.set(bus.arready, self.willing())
        if self.offered is None and self.queue and self.queue[0][0] <= self.now and self.willing():
            _, address, left = self.queue[0]
            word = self.memory[address - self.base:address - self.base + self.bus_bytes]
            self.offered = (int.from_bytes(word, "little"), left == 1)
        ctx.set(bus.rvalid, self.offered is not None)
        if self.offered is not None:
            ctx.set(bus.rdata, self.offered[0])
            ctx.set(bus.rlast, self.offered[1])
            ctx.set(bus.rresp, 2 if self.beats in self.fail_beats else 0)

    def observe(self, ctx):
        bus = self.bus
        valid, ready = ctx.get(bus.arvalid), ctx.get(bus.arready)
        address, beats = ctx.get(bus.araddr), ctx.get(bus.arlen) + 1
        self.rules.stable("ar", valid, ready, (address, beats))
        if valid and ready:
            self.rules.address(address, beats, ctx.get(bus.arsize), ctx.get(bus.arburst))
            self.addresses.append((address, beats))
            self.queue.append([self.now + self.latency, address & -self.bus_bytes, beats])
        if self.offered is not None and ctx.get(bus.rready):
            self.beats += 1
            head = self.queue[0]
            head[1] += self.bus_bytes
            head[2] -= 1
            self.offered = None
            if head[2] == 0:
                self.queue.popleft()
                self.rules.outstanding -= 1
        self.now += 1


class WriteSlave(Slave):
    """Channels AW, W and B. ``patient``: AW is accepted only once W has come."""

    def __init__(self, *args, patient=False, **kwargs):
        super().__init__(*args, **kwargs)
        self.patient = patient
        self.bursts: deque = deque()
        self.data: deque = deque()
        self.answers: deque = deque()
        self.offered = False
        self.answered = 0
        self.addresses = []
        self.touched = bytearray(len(self.memory))

    def drive(self, ctx):
        bus = self.bus
        data_seen = bool(self.data) or ctx.get(bus.wvalid)
        ctx.set(bus.awready, self.willing() and (not self.patient or data_seen))
        ctx.set(bus.wready, self.willing())
        if not self.offered and self.answers and self.answers[0] <= self.now and self.willing():
            self.offered = True
        ctx.set(bus.bvalid, self.offered)
        ctx.set(bus.bresp, 3 if self.answered in self.fail_beats else 0)

    def observe(self, ctx):
        bus = self.bus
        valid, ready = ctx.get(bus.awvalid), ctx.get(bus.awready)
        address, beats = ctx.get(bus.awaddr), ctx.get(bus.awlen) + 1
        self.rules.stable("aw", valid, ready, (address, beats))
        if valid and ready:
            self.rules.address(address, beats, ctx.get(bus.awsize), ctx.get(bus.awburst))
            self.rules.write_burst(beats)
            self.addresses.append((address, beats))
            self.bursts.append([address & -self.bus_bytes, beats])
        valid, ready = ctx.get(bus.wvalid), ctx.get(bus.wready)
        beat = (ctx.get(bus.wdata), ctx.get(bus.wstrb), ctx.get(bus.wlast))
        self.rules.stable("w", valid, ready, beat)
        if valid and ready:
            self.rules.write_beat(beat[2])
            self.data.append(beat)
        self.store()
        if self.offered and ctx.get(bus.bready):
            self.offered = False
            self.answered += 1
            self.answers.popleft()
            self.rules.outstanding -= 1
        self.now += 1

    def store(self):
        while self.bursts and self.data:
            word, strobe, last = self.data.popleft()
            burst = self.bursts[0]
            for index in range(self.bus_bytes):
                if strobe >> index & 1:
                    place = burst[0] + index - self.base
                    self.memory[place] = word >> 8 * index & 0xFF
                    self.touched[place] += 1
            burst[0] += self.bus_bytes
            if last:
                self.bursts.popleft()
                self.answers.append(self.now + self.latency)
