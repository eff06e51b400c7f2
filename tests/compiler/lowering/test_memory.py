"""Memory that temporary tensors share."""

import numpy as np
import pytest

from compiler.lowering.memory import Arena
from compiler.program.builder import ProgramBuilder
from compiler.program.tensor import overlap
from hdl.spec.config import AcceleratorConfig


@pytest.fixture
def arena():
    return Arena(ProgramBuilder(AcceleratorConfig("posit8", dim=4)))


def test_memory_given_back_is_taken_again(arena):
    first = arena.take(4, 8, None, "first")
    second = arena.take(4, 8, None, "second")
    assert not overlap(first, second) and arena.taken == 2
    arena.give(first)
    third = arena.take(2, 8, "bf16", "third")
    assert third.address == first.address and third.stride == 16 and third.name == "third"


def test_neighbours_join_and_are_cut(arena):
    tensors = [arena.take(1, 24, None, str(index)) for index in range(4)]
    for index in (0, 2, 1):
        arena.give(tensors[index])
    # 24 bytes each lie at multiples of the bus, 16: three of them are 96 bytes.
    whole = arena.take(1, 90, None, "whole")
    assert whole.address == tensors[0].address
    arena.give(whole)
    parts = [arena.take(1, 32, None, f"part {index}") for index in range(3)]
    assert [part.address for part in parts] == [tensor.address for tensor in tensors[:3]]
    assert arena.take(1, 1, None, "more").address > tensors[3].address


def test_random_tensors_never_meet():
    rng = np.random.default_rng(0)
    arena = Arena(ProgramBuilder(AcceleratorConfig("posit8", dim=4)))
    living, checked = [], 0
    for index in range(400):
        if living and rng.random() < 0.5:
            arena.give(living.pop(rng.integers(len(living))))
            continue
        shape = rng.integers(1, 40, 2)
        tensor = arena.take(*map(int, shape), rng.choice([None, "bf16"]), str(index))
        assert not any(overlap(tensor, other) for other in living)
        checked += len(living)
        living.append(tensor)
    print(f"{checked} pairs")
    assert checked > 500 and arena.taken == len(living)


def test_without_reuse_all_lie_apart():
    arena = Arena(ProgramBuilder(AcceleratorConfig("posit8", dim=4)), reuse=False)
    first = arena.take(4, 8, None, "first")
    arena.give(first)
    assert arena.take(4, 8, None, "second").address > first.address


def test_giving_back_twice_is_an_error(arena):
    tensor = arena.take(1, 1, None, "tensor")
    arena.give(tensor)
    with pytest.raises(KeyError):
        arena.give(tensor)
