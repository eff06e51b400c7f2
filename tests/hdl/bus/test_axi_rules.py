"""Negative controls of the rule checker: each breach is noticed."""

import pytest

from sim.harness.axi_rules import AxiRules
from support.streams import Sink


def test_page_crossing():
    rules = AxiRules(16)
    rules.address(0x0FF0, 1, 4, 1)
    with pytest.raises(AssertionError, match="4 KiB"):
        rules.address(0x0FF0, 2, 4, 1)


@pytest.mark.parametrize(("beats", "size", "burst", "breach"), [
    (17, 4, 1, "more than 16 beats"), (4, 3, 1, "narrow"), (4, 4, 2, "INCR")])
def test_burst_shape(beats, size, burst, breach):
    with pytest.raises(AssertionError, match=breach):
        AxiRules(16).address(0, beats, size, burst)


@pytest.mark.parametrize("bus, size, most", [(8, 3, 16), (16, 4, 16), (32, 5, 32), (64, 6, 32)])
def test_too_many_outstanding(bus, size, most):
    rules = AxiRules(bus)
    for index in range(most):
        rules.address(bus * index, 1, size, 1)
    with pytest.raises(AssertionError, match=f"more than {most} bursts outstanding"):
        rules.address(0, 1, size, 1)


@pytest.mark.parametrize(("valid", "payload", "breach"), [(0, 5, "fell"), (1, 6, "changed")])
def test_stability(valid, payload, breach):
    rules = AxiRules(16)
    rules.stable("aw", 1, 0, 5)
    with pytest.raises(AssertionError, match=breach):
        rules.stable("aw", valid, 1, payload)


def test_wlast_early_and_missing():
    rules = AxiRules(16)
    rules.write_burst(2)
    with pytest.raises(AssertionError, match="wrong beat"):
        rules.write_beat(1)
    rules = AxiRules(16)
    rules.write_burst(2)
    rules.write_beat(0)
    with pytest.raises(AssertionError, match="missing"):
        rules.write_beat(0)


def test_withdrawn_word():
    sink = Sink.__new__(Sink)
    sink.taken, sink.held, sink.raw = [], 3, "payload"

    class Port:
        valid, ready = "valid", "ready"

    class Context:
        def get(self, what):
            return {"valid": 0, "payload": 3, "ready": 1}[what]

    sink.stream = Port
    with pytest.raises(AssertionError, match="withdrawn"):
        sink.observe(Context())
