"""Ops in turns: each row of each once, in order, and in fewer cycles than one after the other."""

import itertools

import numpy as np
import pytest

from compiler.lowering import backward_lists
from compiler.program.builder import ProgramBuilder
from compiler.training.programs.weave import Part, in_turns, product_part, rows_part, worth
from hdl.spec.config import AcceleratorConfig
from sim.cycles.simulate import simulate


def listed(rows, block, others):
    """What is traced, by the number of the part, 0 for the main one."""
    seen = []

    def part(number, rows, block):
        def trace(first, count):
            seen.append((number, first, count))
        return Part(rows, block, trace)

    in_turns(part(0, rows, block), [part(i, *own) for i, own in enumerate(others, 1)])
    return seen


def test_every_row_comes_once_and_pieces_come_in_turns():
    sizes = list(itertools.product(
        (1, 7, 16, 128, 130), (1, 4, 16), ([], [(128, 64)], [(130, 64), (8, 8), (5, 2)])))
    for rows, block, others in sizes:
        seen = listed(rows, block, others)
        for number, (total, step) in enumerate([(rows, block), *others]):
            pieces = [piece[1:] for piece in seen if piece[0] == number]
            ends = np.cumsum([count for _, count in pieces])
            assert [first for first, _ in pieces] == [0, *ends[:-1]] and ends[-1] == total
            assert all(first % step == 0 for first, _ in pieces)
        numbers = [number for number, *_ in seen]
        assert numbers[0] == 0
        if rows // block >= 8 and others:
            assert numbers[1] != 0 and numbers[-1] != 0
    print(f"{len(sizes)} cases")


def layer(woven):
    """LayerNorm's gradient of 128 rows beside x·Aᵀ of four adapters of rank 8, as of BERT-base."""
    config = AcceleratorConfig("posit8", functions="training")
    builder = ProgramBuilder(config)
    x, h, out = (builder.empty(128, 768, kind) for kind in ("bf16", None, None))

    def norm(first, count):
        x1, h1, out1 = (tensor.block(first, 0, count, 768) for tensor in (x, h, out))
        builder.vector(x1, out1, backward_lists.layer_norm_backward(h1, 1e-5))

    def adapter(k, rank):
        given, a, inner = builder.empty(128, k), builder.empty(rank, k), builder.empty(128, rank)
        return product_part(config, 128, k, rank, lambda first, count: builder.gemm(
            given.block(first, 0, count, k), a, inner.block(first, 0, count, rank),
            b_transposed=True))

    main = rows_part(config, 128, 768, True, norm)
    others = [adapter(768, 8), adapter(768, 24), adapter(768, 8), adapter(3072, 8)]
    assert worth(config, 128, 768)
    if woven:
        in_turns(main, others)
    else:
        for part in (*others, main):
            part.whole()
    builder.end()
    commands = builder.commands
    return simulate(config, list(commands)).cycles, len(commands)


def test_turns_take_fewer_cycles():
    (plain, few), (woven, many) = layer(False), layer(True)
    print(f"{few} commands {plain} cycles, in turns {many} commands {woven}: {woven - plain:+}")
    assert (few, many) == (6, 17) and woven < 0.92 * plain


@pytest.mark.parametrize(("rows", "columns", "gains"), [
    (128, 768, True), (128, 384, True), (512, 32, False), (32, 128, False), (16, 768, False),
    (32, 768, True)])
def test_small_norms_stay_alone(rows, columns, gains):
    assert worth(AcceleratorConfig("posit8", functions="training"), rows, columns) == gains
