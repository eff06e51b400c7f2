"""How long MiniLM takes over the 1,066 sentences that are held out: every eighth of each length."""

import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.registry import load, tokenizer
from compiler.training.tasks import movie_reviews
from hdl.spec.config import AcceleratorConfig
from sim.verify.arithmetic import Arithmetic
from sim.verify.expected import outputs
from support.require import require

_AT_ONCE = 2048  # positions


@pytest.mark.slow
@pytest.mark.parametrize("acc, most", [("exact", 120), ("bf16", 600)])  # on a busy machine
def test_minutes_for_all_sentences(acc, most):
    model, words = require(load, "minilm"), require(tokenizer, "minilm")
    held_out = require(movie_reviews, words).held_out
    texts = [ids[valid] for ids, valid in zip(held_out.inputs, held_out.valid, strict=True)]
    math = Arithmetic(AcceleratorConfig("posit8", acc=acc, softmax="pwl"))
    outputs(math, model, Inputs("ids", texts[0][None]))  # loads, rounds weights, compiles
    started, tokens = time.process_time(), 0
    with threadpool_limits(1, "blas"):
        for length in sorted({len(text) for text in texts}):
            own = [text for text in texts if len(text) == length][::8]
            size = max(1, _AT_ONCE // length)
            for first in range(0, len(own), size):
                outputs(math, model, Inputs("ids", np.stack(own[first:first + size])))
            tokens += length * len(own)
    every = sum(map(len, texts))
    seconds = (time.process_time() - started) * every / tokens
    print(f"{acc}: {seconds:.0f} s of CPU for {every} tokens, from {tokens}")
    assert seconds < most
