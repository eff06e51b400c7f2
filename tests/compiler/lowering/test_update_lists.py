"""Updates as commands against the same rules in numpy: every word of every tensor."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.lowering import update_lists
from compiler.lowering.update_lists import State
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.training.description import AdamW, Momentum, Sgd
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.update import Updater
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine

SHAPE = 12, 9
OPTIMISERS = (AdamW(), AdamW(0.8, 0.95, 1e-4, decay=0.1), Momentum(), Momentum(0.5, 0.25), Sgd(),
              Sgd(0.1))


def gradient(step):
    return np.random.default_rng((7, step)).normal(0, 0.3, SHAPE)


def start():
    return np.random.default_rng(6).normal(0, 1, SHAPE)


def emit(builder, state, optimiser, rate, step):
    if isinstance(optimiser, AdamW):
        corrected = rate * optimiser.correction(step)
        update_lists.adamw(builder, state, -corrected, optimiser.beta1, optimiser.beta2,
                           optimiser.eps)
    elif isinstance(optimiser, Momentum):
        update_lists.momentum(builder, state, -rate, optimiser.momentum)
    else:
        update_lists.sgd(builder, state, -rate)
    if optimiser.decay:
        update_lists.decay(builder, state, -rate * optimiser.decay)
    update_lists.add_to_pair(builder, state)


def program(config, optimiser, steps, after=lambda builder, state: None):
    """Updates one after the other; hi and its next place take turns."""
    builder = ProgramBuilder(config, BASE)
    begin = start()
    high = EightBit(config).wide_constant(begin)
    low = EightBit(config).wide_constant(begin - high)
    state = State(builder.empty(*SHAPE, "bf16"), builder.constant(high, "bf16", name="high"),
                  builder.constant(low, "bf16"), builder.empty(*SHAPE, "bf16"),
                  builder.empty(*SHAPE, "bf16"), builder.constant(np.zeros(SHAPE), "bf16"),
                  builder.constant(np.zeros(SHAPE), "bf16"))
    for step in range(1, steps + 1):
        own = replace(state, gradient=builder.constant(gradient(step), "bf16"))
        emit(builder, own, optimiser, 0.01 / step, step)
        state = replace(state, high=state.moved, moved=state.high)
        after(builder, state)
    return builder, state


def updated(config, optimiser, steps):
    numerics = EightBit(config)
    updater = Updater(numerics, optimiser, {"w": start()}, "pair")
    for step in range(1, steps + 1):
        updater.apply({"w": numerics.wide_constant(gradient(step))}, 0.01 / step)
    return updater


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=str)
def test_twenty_updates_on_the_machine_have_the_bits_of_numpy(optimiser):
    config = AcceleratorConfig("posit8")
    builder, state = program(config, optimiser, 20)
    memory, address = builder.build(seed=0)
    assert Machine(config).run(memory, address, BASE).error is None
    updater = updated(config, optimiser, 20)
    for tensor, wanted in ((state.high, updater.values["w"]), (state.low, updater.lower["w"])):
        assert np.array_equal(read(memory, tensor, BASE), wanted)
    moved = np.abs(updater.values["w"] - start()).mean()
    print(f"{2 * start().size} words compared; moved by {moved:.4f} on average")
    assert moved > 1e-3 and updater.lower["w"].any()


def test_a_lower_word_that_is_lost_is_found():
    """Negative control: lo is cleared after every update."""
    def clear(builder, state):
        builder.vector(state.low, state.low, Epilogue(0.0))

    config = AcceleratorConfig("posit8")
    builder, state = program(config, AdamW(), 20, clear)
    memory, address = builder.build(seed=0)
    assert Machine(config).run(memory, address, BASE).error is None
    wrong = read(memory, state.high, BASE) != updated(config, AdamW(), 20).values["w"]
    assert wrong.mean() > 0.3


@pytest.mark.parametrize("optimiser", OPTIMISERS[1::2], ids=str)
def test_updates_on_rtl(optimiser):
    machine = small_accelerator("posit8")
    builder, state = program(machine.config, optimiser, 2)
    memory, address = builder.build(seed=1)
    written = [state.high, state.low, state.moved, state.room]
    if not isinstance(optimiser, Sgd):
        written.append(state.first)
    if isinstance(optimiser, AdamW):
        written.append(state.second)
    compared = 0
    for seed, profile in enumerate(("heavy", "light")):
        case = Case(memory, address, BASE, tuple(written), str(optimiser))
        compared += compare(machine, case, profile, seed, rewrites=True)
    print(f"{optimiser}: {compared} bytes")
    assert compared == 2 * 2 * len(written) * start().size
