"""A real encoder learns from real sentences, a thousand of them: minutes."""

import re

import pytest

from compiler.checkpoints import load
from compiler.checkpoints.registry import tokenizer
from compiler.training.tasks import movie_reviews
from sim import train
from support.require import require

STEPS = 32  # of 32 sentences


def right(capsys, *options):
    """What is right of what was held out, before and after."""
    code = train.main(["minilm", "--task", "movie-reviews", "--lora", "8", "--rate", "1e-3",
                       "--steps", str(STEPS), "--quiet", *options])
    out = capsys.readouterr().out
    before, after = (float(found) for found in re.findall(r"held out: .* right (0\.\d+)", out))
    assert code == 0 and f"step {STEPS} of {STEPS}" in out
    return before, after


@pytest.mark.slow
def test_minilm_learns_in_eight_bits_as_in_fp32(capsys):
    """Adapters apart: merged, so few updates are lost where 8 bits round the matrices."""
    require(load, "minilm")
    require(movie_reviews, require(tokenizer, "minilm"))
    (start, plain), (begin, rounded) = (
        right(capsys, "--plain"), right(capsys, "--adapters", "beside"))
    print(f"{32 * STEPS} sentences: fp32 {start} to {plain}, posit8 {begin} to {rounded}")
    assert plain - start > 0.15 and rounded - begin > 0.15
    assert abs(plain - rounded) < 2 * 0.0137  # standard errors of what is held out
