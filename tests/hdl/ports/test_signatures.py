"""Signatures are equal where class and parameters are, and refuse parameters that make no sense."""

import pytest
from amaranth.lib import wiring

from hdl.bus import axi
from hdl.ports.accumulation import BankStates, FillPort, Release, Totals
from hdl.ports.beat import beat_layout
from hdl.ports.counts import AllCounts, Counts
from hdl.ports.host import Failure, ProgramPort
from hdl.ports.memory import EnginePort, ReadClient, ReadPort, WritePort
from hdl.ports.panels import WeightPanels
from hdl.ports.sram import SramRead, SramWrite
from hdl.ports.unit import UnitPort, UnitPorts
from hdl.ports.vector import PassControl, Storage
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTERS
from hdl.vector.lane_control import LaneControl, StageControl

SMALL, LARGE = AcceleratorConfig(dim=4), AcceleratorConfig(dim=8, functions="softmax")
PARAMETRIC = [(UnitPort, (SMALL,), (LARGE,)), (UnitPorts, (SMALL,), (LARGE,)),
              (ReadPort, (4,), (8,)), (ReadClient, (4,), (8,)), (WritePort, (4,), (8,)),
              (SramRead, (16,), (16, 2)), (SramWrite, (8, 16), (8, 16, 2)),
              (BankStates, (SMALL,), (LARGE,)), (Totals, (SMALL,), (LARGE,)),
              (WeightPanels, (SMALL,), (LARGE,)), (PassControl, (SMALL,), (LARGE,)),
              (LaneControl, (SMALL,), (LARGE,)), (StageControl, (SMALL,), (SMALL, True)),
              (Counts, ("reader",), ("writer",)), (axi.ReadSignature, (4,), (8,)),
              (axi.WriteSignature, (4,), (8,)), (axi.Signature, (4,), (8,))]
PLAIN = [FillPort, Release, EnginePort, Failure, ProgramPort, Storage, AllCounts,
         axi.LiteSignature]


@pytest.mark.parametrize("signature, one, other", PARAMETRIC, ids=lambda given: getattr(
    given, "__name__", ""))
def test_equal_by_class_and_parameters(signature, one, other):
    assert signature(*one) == signature(*one)
    assert signature(*one) != signature(*other)
    assert signature(*one) != wiring.Signature(dict(signature(*one).members))
    assert repr(signature(*one)).startswith(f"{signature.__name__}(")
    assert repr(signature(*one)) != repr(signature(*other))


@pytest.mark.parametrize("signature", PLAIN)
def test_equal_without_parameters(signature):
    assert signature() == signature() != FillPort() or signature is FillPort
    assert repr(signature()) == f"{signature.__name__}()"


def test_a_client_is_no_mere_port():
    assert ReadClient(4) != ReadPort(4)
    assert set(ReadClient(4).members) - set(ReadPort(4).members) == {"urgent", "granted"}


def test_every_counter_has_one_source():
    found = [path[-1] for path, _, _ in AllCounts().flatten(AllCounts().create())]
    assert sorted(found) == sorted(name.lower() for name, _ in COUNTERS)


@pytest.mark.parametrize("make, message", [
    (lambda: beat_layout(0), "nbytes must be an integer of at least 1, not 0"),
    (lambda: ReadPort("4"), "nbytes must be an integer of at least 1, not '4'"),
    (lambda: SramRead(1), "depth must be an integer of at least 2, not 1"),
    (lambda: SramRead(16, banks=1), "banks must be an integer of at least 2, not 1"),
    (lambda: SramWrite(0, 16), "width must be an integer of at least 1, not 0"),
    (lambda: SramWrite(8, 16, parts=3), "parts must divide width 8, not 3"),
    (lambda: Counts("nobody"), "source must be one of sequencer, core, reader, writer, not 'nob"),
    (lambda: axi.ReadSignature(12), "bus_bytes must be a power of two, not 12"),
    (lambda: axi.WriteSignature(0), "bus_bytes must be a power of two, not 0"),
])
def test_senseless_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
