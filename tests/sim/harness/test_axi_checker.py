"""The AXI checkers accept legal traffic and name each broken rule."""

import ctypes
from functools import cache
from pathlib import Path

import pytest

import sim.harness
from sim.harness.verilate import build_native

HERE = Path(sim.harness.__file__).parent
BUS_BYTES = 16
U8, U32, U64 = ctypes.c_uint8, ctypes.c_uint32, ctypes.c_uint64


def _struct(name, *fields):
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


HANDSHAKE = (("valid", U8), ("ready", U8))
ADDRESS = _struct("Address", *HANDSHAKE, ("address", U64), ("id", U32), ("len", U8),
                  ("size", U8), ("burst", U8))
READ = _struct("Read", *HANDSHAKE, ("data", U8 * 64), ("id", U32), ("resp", U8), ("last", U8))
WRITE = _struct("Write", *HANDSHAKE, ("data", U8 * 64), ("strobe", U64), ("last", U8))
RESPONSE = _struct("Response", *HANDSHAKE, ("id", U32), ("resp", U8))
AXI = _struct("Axi", ("ar", ADDRESS), ("aw", ADDRESS), ("r", READ), ("w", WRITE), ("b", RESPONSE))
LITE = _struct("Lite", *((name, U8) for name in (
    "awvalid awready wvalid wready bvalid bready arvalid arready rvalid rready "
    "bresp rresp wstrb").split()), *((name, U32) for name in "awaddr araddr wdata rdata".split()))


@cache
def library():
    return ctypes.CDLL(str(build_native(HERE / "axi_checker.cpp",
                                        [HERE / "axi_checker.hpp", HERE / "axi_pins.hpp"])))


def _call(function, cycles, kind, *before):
    text = ctypes.create_string_buffer(4096)
    total = function(*before, (kind * len(cycles))(*cycles), U64(len(cycles)), text, U64(4096))
    lines = text.value.decode().splitlines()
    assert len(lines) == total
    return lines


def check_axi(cycles):
    return _call(library().check_axi, cycles, AXI, BUS_BYTES)


def check_lite(cycles):
    return _call(library().check_lite, cycles, LITE)


def address(start, beats, **changes):
    values = {"valid": 1, "ready": 1, "address": start, "len": beats - 1, "size": 4, "burst": 1}
    return ADDRESS(**(values | changes))


def write_burst(start=0x1008, beats=3):
    """One cycle that is waited for, then the burst, then its response."""
    waiting = AXI(aw=address(start, beats, ready=0),
                  w=WRITE(valid=1, strobe=0xFF00, last=beats == 1))
    cycles = [waiting]
    for beat in range(beats):
        data = WRITE(valid=1, ready=1, strobe=0xFFFF if beat else 0xFF00, last=beat == beats - 1)
        cycles.append(AXI(aw=address(start, beats, valid=not beat), w=data))
    return [*cycles, AXI(b=RESPONSE(valid=1, ready=0)), AXI(b=RESPONSE(valid=1, ready=1))]


def read_burst(start=0x2000, beats=2):
    beat = READ(valid=1, ready=1)
    last = READ(valid=1, ready=1, last=1)
    return [AXI(ar=address(start, beats)), *[AXI(r=beat)] * (beats - 1), AXI(r=last)]


def test_legal_traffic_passes():
    assert check_axi(write_burst() + read_burst() + write_burst(beats=1)) == []
    assert check_axi(read_burst(start=0xFF0, beats=1) + read_burst(start=0xE00, beats=32)) == []


def _broken_axi():
    def change(cycles, index, path, value):
        cycles = [AXI.from_buffer_copy(cycle) for cycle in cycles]
        channel, field = path.split(".")
        setattr(getattr(cycles[index], channel), field, value)
        return cycles

    writes, reads = write_burst(), read_burst()
    return {
        "awvalid fell": change(writes, 1, "aw.valid", 0),
        "aw payload changed": change(writes, 1, "aw.address", 0x1018),
        "wvalid fell": change(change(writes, 1, "w.valid", 0), 2, "w.strobe", 0xFF00),
        "w payload changed": change(writes, 0, "w.strobe", 0xFE00),
        "awburst is not INCR": change(change(writes, 0, "aw.burst", 2), 1, "aw.burst", 2),
        "awsize is not": change(change(writes, 0, "aw.size", 3), 1, "aw.size", 3),
        "wlast is missing": change(writes, 3, "w.last", 0),
        "wlast comes early": change(writes, 2, "w.last", 1),
        "wstrb covers bytes below": change(change(writes, 0, "w.strobe", 0xFF80),
                                           1, "w.strobe", 0xFF80),
        "wstrb is wider": change(writes, 2, "w.strobe", 0x1FFFF),
        "bvalid fell": change(writes, 5, "b.valid", 0),
        "b before its burst": [*writes, writes[-1]],
        "bid is not": change(change(writes, 4, "b.id", 1), 5, "b.id", 1),
        "aw burst crosses": write_burst(start=0x1FF8),
        "ar burst crosses": read_burst(start=0xFF0),
        "rlast is missing": change(reads, 2, "r.last", 0),
        "rlast comes early": change(reads, 1, "r.last", 1),
        "rid is not": change(reads, 1, "r.id", 1),
        "r beat without": reads[1:2],
    }


@pytest.mark.parametrize("message", _broken_axi())
def test_each_broken_rule_is_named(message):
    found = check_axi(_broken_axi()[message])
    assert any(message in line for line in found), found


def lite_traffic():
    return [LITE(awvalid=1, awready=1), LITE(wvalid=1, wready=1), LITE(bvalid=1),
            LITE(bvalid=1, bready=1), LITE(arvalid=1, arready=1), LITE(rvalid=1, rdata=5),
            LITE(rvalid=1, rready=1, rdata=5)]


def test_legal_control_traffic_passes():
    assert check_lite(lite_traffic() * 2) == []


@pytest.mark.parametrize("index, field, value, message", [
    (3, "bvalid", 0, "bvalid or bresp changed"), (3, "bresp", 2, "bvalid or bresp changed"),
    (6, "rdata", 6, "rvalid, rdata or rresp changed"), (1, "wvalid", 0, "bvalid without a write"),
    (0, "awready", 0, "bvalid without a write"), (4, "arready", 0, "rvalid without a read"),
])
def test_each_broken_control_rule_is_named(index, field, value, message):
    cycles = [LITE.from_buffer_copy(cycle) for cycle in lite_traffic()]
    setattr(cycles[index], field, value)
    assert any(message in line for line in check_lite(cycles))
