"""Training steps on the generated Verilog: every byte of the memory as the machine model's after
every program, and every gradient, master and scale as without one."""

from dataclasses import replace

import pytest

from compiler.checkpoints import load
from compiler.training.description import LowRank, WholeMatrices
from sim.campaigns.regression import small_accelerator
from sim.campaigns.training_step import Counted
from sim.cycles.check import measure
from sim.verify.starts import built, rtl_start
from support.require import require
from support.training_steps import (
    Both,
    config,
    masked,
    paragraphs,
    real,
    sentences,
    spans,
    training,
)


def test_two_steps_of_a_small_bert():
    """Micro-batches, sentences of any length, layers computed again."""
    machine = small_accelerator("posit8", functions="training")
    own, start = training(batch=2, micro=1, recompute=1), Counted(rtl_start(machine))
    both = Both(machine.config, own, start, work=sentences(own)).calibrate().step().step()
    print(f"{start.programs} programs, {start.cycles} cycles, {start.bytes} bytes equal; "
          f"{both.compared} items")
    program = both.host.program
    for name in ("first", "next", "update"):
        case = measure(machine, name, both.host.memory, getattr(program, name))
        print(f"{name}: {case.rtl} cycles, the cycle model {case.error:+.2%}")
        assert not case.fails
    # To start; a calibration and two steps of two micro-batches and one program more.
    assert not both.wrong and start.programs == 1 + 3 * 3 and start.bytes > 500_000


@pytest.mark.parametrize(("own", "work"), [
    (training(batch=2), spans),
    (training(batch=2, micro=1, method=WholeMatrices()), sentences),
    (training(batch=2, head=False), paragraphs),
    (training(batch=2, head=False), masked),
    (training(batch=2, micro=1, method=LowRank(rank=4, place="beside")), sentences)],
    ids=["spans", "whole matrices", "padded texts", "masked words", "beside"])
def test_a_step(own, work):
    """Of sentences, and texts for the next id, of any length."""
    machine = small_accelerator("posit8", functions="training")
    start = Counted(rtl_start(machine))
    both = Both(machine.config, own, start, work=work(own)).calibrate().step()
    print(f"{start.programs} programs, {start.cycles} cycles, {start.bytes} bytes equal; "
          f"{both.compared} items")
    programs = 1 + 2 * (own.batch // own.micro + 1)
    assert not both.wrong and start.programs == programs and start.bytes > 250_000


@pytest.mark.slow
@pytest.mark.parametrize(("fmt", "softmax"), [("posit8", "pwl"), ("fp8", "approx_shifted")])
def test_twenty_steps_of_the_digits_vit(fmt, softmax):
    built_as = config(fmt, softmax)
    start = Counted(rtl_start(built(built_as)))
    both = Both(built_as, training(batch=4), start, keep=False).calibrate()
    for _ in range(20):
        both.step()
    print(f"{start.programs} programs, {start.cycles} cycles, {start.bytes} bytes equal; "
          f"{both.compared} items")
    assert not both.wrong and start.programs == 1 + 2 * 21 and start.bytes > 5_000_000


@pytest.mark.slow
def test_a_step_of_a_layer_of_minilm():
    """Rows and products as long as those of a real encoder, two sentences of at most 8 ids."""
    model = require(load, "minilm")
    own, work = real(replace(model, blocks=model.blocks[:1]))
    built_as = config(softmax="approx_shifted")
    start = Counted(rtl_start(built(built_as)))
    both = Both(built_as, own, start, work=work).calibrate().step()
    print(f"{start.programs} programs, {start.cycles} cycles, {start.bytes} bytes equal; "
          f"{both.compared} items")
    assert not both.wrong and start.programs == 1 + 2 * 2 and start.bytes > 50_000_000
