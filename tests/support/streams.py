"""Drivers of streams and the loop that moves them, for Amaranth's simulator."""

import random
from collections import deque

from amaranth.hdl import ClockDomain, Module, Value
from amaranth.sim import Simulator

__all__ = ["Sink", "Source", "beats_of", "pack_transfer", "random_transfer", "simulate"]


class Source:
    """Offers ``items`` (integers, the raw payload) on a stream."""

    def __init__(self, stream, items, *, seed=0, stall=0.0):
        self.stream, self.items = stream, deque(items)
        self.raw = Value.cast(stream.payload)
        self.chance, self.stall = random.Random(seed), stall
        self.offered = False

    def drive(self, ctx):
        if not self.offered and self.items and self.chance.random() >= self.stall:
            self.offered = True
            ctx.set(self.raw, self.items[0])
        ctx.set(self.stream.valid, self.offered)

    def observe(self, ctx):
        if self.offered and ctx.get(self.stream.ready):
            self.items.popleft()
            self.offered = False


class Sink:
    """Takes from a stream into ``taken``; checks that what is offered stays."""

    def __init__(self, stream, *, seed=0, stall=0.0):
        self.stream, self.taken = stream, []
        self.raw = Value.cast(stream.payload)
        self.chance, self.stall = random.Random(seed), stall
        self.held = None

    def drive(self, ctx):
        ctx.set(self.stream.ready, self.chance.random() >= self.stall)

    def observe(self, ctx):
        valid, word = ctx.get(self.stream.valid), ctx.get(self.raw)
        if self.held is not None:
            assert valid and word == self.held, "an offered word was withdrawn or changed"
        self.held = None
        if valid and ctx.get(self.stream.ready):
            self.taken.append(word)
        elif valid:
            self.held = word


def simulate(dut, parts, *, until, limit=20000, each_cycle=None):
    """Cycles until ``until()`` holds; ``each_cycle(ctx, cycle)`` may drive more ports."""
    spent = []

    async def bench(ctx):
        for cycle in range(limit):
            if each_cycle is not None:
                each_cycle(ctx, cycle)
            for part in parts:
                part.drive(ctx)
            for part in parts:
                part.observe(ctx)
            await ctx.tick()
            if until():
                spent.append(cycle + 1)
                return
        raise AssertionError(f"nothing ended within {limit} cycles")

    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.dut = dut
    simulator = Simulator(top)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return spent[0]


def pack_transfer(address, row_bytes, rows, stride):
    return address | row_bytes << 64 | rows << 90 | stride << 114


def beats_of(rows, nbytes):
    """Raw chunk payloads of ``rows`` (a list of bytes)."""
    size_bits = nbytes.bit_length()
    out = []
    for row in rows:
        for start in range(0, len(row), nbytes):
            piece = row[start:start + nbytes]
            last = start + nbytes >= len(row)
            out.append(int.from_bytes(piece, "little") | len(piece) << 8 * nbytes
                       | last << 8 * nbytes + size_bits)
    return out


def random_transfer(chance, base, space, largest=120):
    """Some transfer within ``space`` bytes from ``base``, rows apart, often across a page."""
    row_bytes = chance.choice([1, 2, chance.randint(1, largest), chance.randint(1, largest)])
    stride = row_bytes + chance.choice([0, 0, 1, 16, chance.randint(0, 40)])
    rows = chance.randint(1, max(1, min(6, space // stride)))
    address = base + chance.randint(0, space - stride * rows)
    return address, row_bytes, rows, stride
