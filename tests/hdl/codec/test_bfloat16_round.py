"""The rounding of FP32 words to BF16 against ml_dtypes, on every upper half and at every tie."""

import ml_dtypes
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.leaves import Library
from hdl.codec.bfloat16_round import bfloat16_round
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches

NAN, INFINITY, LARGEST = 0x7FC0, 0x7F80, 0x7F7F
UPPER = np.arange(1 << 16, dtype=np.uint32) << 16
WORDS = np.concatenate([
    *(UPPER | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)),
    np.random.default_rng(61).integers(0, 1 << 32, 200_000, dtype=np.uint32)])


class Rounder(wiring.Component):
    def __init__(self, flush, saturate):
        self.flush, self.saturate = flush, saturate
        super().__init__({"word": In(32), "result": Out(16), "beyond": Out(1)})

    def elaborate(self, platform):
        m = Module()
        beyond = self.beyond if self.saturate else None
        m.d.comb += self.result.eq(
            bfloat16_round(m, self.word, "word", flush=self.flush, beyond=beyond))
        return m


def expected(flush, saturate):
    """(words, beyond) by ml_dtypes, which keeps subnormals and overflows to infinity."""
    values = WORDS.view(np.float32)
    with np.errstate(all="ignore"):
        rounded = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    sign = rounded & 0x8000
    rounded = np.where(np.isnan(values), NAN, rounded)
    tiny = np.abs(values) < np.float32(2.0 ** -126)
    if flush:
        rounded = np.where(tiny, sign, rounded)
    top = np.uint32(LARGEST << 16).view(np.float32)
    beyond = np.isfinite(values) & (np.abs(values) > top)
    if saturate:
        rounded = np.where(beyond, sign | LARGEST, rounded)
        rounded = np.where(np.isinf(values), NAN, rounded)
    return rounded, beyond & saturate


@pytest.mark.parametrize("flush, saturate", [
    (False, False), (True, False), (False, True), (True, True)])
def test_every_tie(flush, saturate):
    library = Library()
    library.add(Rounder(flush, saturate), "rounder")
    found = Batch(library.verilog(), "rounder").run({"word": WORDS})
    words, beyond = expected(flush, saturate)
    name = f"bf16 round flush={flush} saturate={saturate}"
    assert check(name, found["result"], words, {"word": WORDS}) > 500_000
    check(f"{name} beyond", found["beyond"], beyond.astype(np.uint32), {"word": WORDS})
    assert beyond.any() == saturate
    # Each choice shows: no other one gives the same words.
    for other in {(True, False), (False, True), (False, False)} - {(flush, saturate)}:
        assert count_mismatches(found["result"], expected(*other)[0]) > 9
