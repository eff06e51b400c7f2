"""Masks of 8 bits leave the bytes that masks of BF16 leave."""

import numpy as np
import pytest

from compiler.lowering.epilogues import epilogue_of
from compiler.lowering.lane_ops import Apply, Hide, Scale, Softmax
from compiler.lowering.values import Value
from compiler.program.builder import ProgramBuilder, read_codes
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import BFLOAT16, FORMATS
from sim.model import codec
from sim.model.machine import Machine
from sim.model.rounding import largest

NARROW = [name for name, fmt in FORMATS.items() if fmt.storage_bits == 8]
HIDE = Hide((Value("mask", 1, 1).whole,))


def results(config, scores, hidden, scale, softmax=True):
    """Codes of scores × ``scale`` with a mask of BF16, and with one of the format."""
    found = []
    for kind in ("bf16", None):
        builder = ProgramBuilder(config)
        x = builder.constant(scores, "bf16")
        mask = builder.constant(np.where(hidden, -largest(BFLOAT16), 0.0), kind)
        out = builder.empty(*scores.shape, None if softmax else "bf16")
        steps = [(Scale(scale), ()), (HIDE, (mask,)), *([(Softmax(), ())] if softmax else [])]
        builder.vector(x, out, epilogue_of(steps))
        builder.end()
        memory, address = builder.build()
        assert Machine(config).run(memory, address).error is None
        found.append(read_codes(memory, out))
    return found


@pytest.mark.parametrize("mode", SOFTMAX_MODES)
@pytest.mark.parametrize("fmt", NARROW)
def test_probabilities_are_the_same(fmt, mode):
    config = AcceleratorConfig(fmt, dim=4, softmax=mode)
    rng = np.random.default_rng(3)
    # Scores of every magnitude that sums of 128 products of the format have, and alike ones.
    codes = codec.decode(FORMATS[fmt].encodings[0], np.arange(256, dtype=np.uint8))
    codes = np.log2(codes[np.isfinite(codes) & (codes > 0)])
    least, most = 2 * codes.min(), 2 * codes.max() + 7
    size = np.exp2(np.minimum(rng.uniform(least, most, (400, 1)) + 3 * rng.random((400, 24)), most))
    scores = np.concatenate([size, rng.normal(0, 4, (400, 24))]) * rng.choice([-1, 1], (800, 24))
    scores[rng.random(scores.shape) < 0.1] = 0
    hidden = rng.random(scores.shape) < 0.5
    hidden[np.arange(800), rng.integers(0, 24, 800)] = False
    wide, narrow = results(config, scores, hidden, 64 ** -0.5)
    print(f"{fmt} {mode}: {wide.size} probabilities, {np.count_nonzero(wide)} above 0")
    assert (wide == narrow).all() and np.count_nonzero(wide) > 300
    assert not narrow[hidden].any()


@pytest.mark.parametrize("fmt", NARROW)
def test_what_is_seen_keeps_its_bits(fmt):
    """Every BF16 word that a score may be, 0 among them, alone and hidden."""
    config = AcceleratorConfig(fmt, dim=4)
    words = np.arange(127 - 84 << 7, 127 + 56 << 7).astype(np.uint32) << 16
    values = np.concatenate([[0], words.view(np.float32)]).astype(np.float64)
    scores = np.concatenate([values, -values])[:, None]
    wide, narrow = results(config, scores, np.zeros(scores.shape, bool), 0.3125, softmax=False)
    print(f"{fmt}: {wide.size} words")
    assert (wide == narrow).all() and wide.size > 35000


def test_a_row_that_is_hidden_whole_needs_bf16():
    scores, hidden = np.ones((1, 8)), np.ones((1, 8), bool)
    wide, narrow = results(AcceleratorConfig("posit8", dim=4), scores, hidden, 1.0)
    assert not wide.any() and narrow.all()


@pytest.mark.parametrize("steps", [
    [(Scale(0.5), ()), (Scale(0.5), ()), "hide"], ["hide", (Apply("gelu"), ())]])
def test_other_steps_need_bf16(steps):
    builder = ProgramBuilder(AcceleratorConfig("posit8", dim=4))
    for kind in (None, "bf16"):
        mask = builder.constant(np.zeros((1, 1)), kind)
        given = [(HIDE, (mask,)) if step == "hide" else step for step in steps]
        if kind is None:
            with pytest.raises(ValueError, match="a mask of 8 bits goes with a scale"):
                epilogue_of(given)
        else:
            assert epilogue_of(given).instructions
