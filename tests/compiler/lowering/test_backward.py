"""Operations of the backward pass: the machine against float64, RTL against the machine."""

import numpy as np
import pytest

from compiler.checkpoints import samples
from compiler.lowering import backward, operations
from compiler.program.builder import ProgramBuilder, read
from compiler.training.gradients.attention import rotate
from compiler.training.gradients.numerics import Exact
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine

BETWEEN = (" crossed", " labels")


def rotary(builder, rng, stored):
    """The rotation forward and back gives what there was; alone it is the derivative's."""
    attention = samples.llama(interleaved=False).blocks[0].attention
    heads, size, rows = 3, attention.head_size, 9
    c, s = backward.rotary_tables_back(np.arange(rows), size, heads, attention.rotary.base)
    d = builder.constant(rng.normal(0, 1, (rows, heads * size)), stored)
    out = builder.empty(rows, heads * size, "bf16")
    backward.rotate_backward(builder, d, builder.constant(c, "bf16"), builder.constant(s, "bf16"),
                             out)

    def truth(read):
        given = read(d).reshape(1, rows, heads, size).swapaxes(1, 2)
        return rotate(Exact(), attention, given, -1).swapaxes(1, 2).reshape(rows, -1)

    return out, truth


def sums(builder, rng, stored):
    d = builder.constant(rng.normal(0, 1, (21, 7)), stored)
    out = builder.empty(1, 7, "bf16")
    backward.column_sums(builder, d, out, 0.25)
    return out, lambda read: read(d).sum(axis=0, keepdims=True) / 4


def pooling(builder, rng, stored):
    valid = np.arange(5) < np.array([[5], [2], [4]])
    values = np.concatenate([rng.normal(0, 1, (3, 6)), np.zeros((1, 6))])
    pooled, gamma = builder.constant(values, stored), builder.constant(
        rng.normal(1, 0.2, (1, 6)), stored)
    out = builder.empty(15, 6, "bf16")
    backward.mean_pool_backward(builder, pooled, valid, gamma, out, 2.0)

    def truth(read):
        rows = 2 * read(pooled)[:3] * read(gamma) / valid.sum(axis=1, keepdims=True)
        return (rows[:, None] * valid[..., None]).reshape(15, 6)

    return out, truth


def vocabulary(builder, rng, stored):
    e = np.exp(rng.normal(0, 2, (6, 30)))
    p = builder.constant(e / e.sum(axis=1, keepdims=True), stored)
    table = builder.constant(rng.normal(0, 1, (30, 8)), stored)
    labels = rng.integers(0, 30, 6)
    out = builder.empty(6, 8, "bf16", name="states")
    backward.vocabulary_backward(builder, p, table, labels, out, 1 / 8)
    return out, lambda read: (read(p) @ read(table) - read(table)[labels]) / 8


OPERATIONS = (rotary, sums, pooling, vocabulary)


def made(config, operation, seed=0):
    builder = ProgramBuilder(config, BASE)
    out, truth = operation(builder, np.random.default_rng(seed), config.format.encodings[0].name)
    memory, address = builder.build(seed=seed)
    return builder, memory, address, out, truth


@pytest.mark.parametrize("fmt", ["posit8", "fp8"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_are_accurate_on_the_machine(operation, fmt):
    config = AcceleratorConfig(fmt, acc="fp32")
    _, memory, address, out, truth = made(config, operation)
    wanted = truth(lambda tensor: read(memory, tensor, BASE))
    assert Machine(config).run(memory, address, BASE).error is None
    found = read(memory, out, BASE)
    cosine = (found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted)
    print(f"{operation.__name__} {fmt}: cosine {cosine:.6f}, {found.size} items")
    assert cosine >= 0.9999 and np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_on_rtl(operation):
    machine = small_accelerator("posit8")
    compared = 0
    for seed, profile in enumerate(("heavy", "light", "ideal")):
        builder, memory, address, out, _ = made(machine.config, operation, seed)
        own = [t for t in builder.tensors if t.name.endswith(BETWEEN)]
        compared += compare(machine, Case(memory, address, BASE, (out, *own), operation.__name__),
                            profile, seed)
    print(f"{operation.__name__}: {compared} bytes")
    assert compared >= 3 * 14


def test_turning_forward_is_not_turning_back():
    tables = [make(np.arange(9), 4, 3, 10000.0)
              for make in (operations.rotary_tables, backward.rotary_tables_back)]
    assert np.array_equal(tables[0][0], tables[1][0])
    assert np.array_equal(tables[0][1], -tables[1][1]) and tables[0][1].any()


def test_rows_that_do_not_fit_are_refused():
    builder = ProgramBuilder(AcceleratorConfig("posit8"), BASE)
    with pytest.raises(ValueError, match="pooled must have 3 rows, the last of zeros, and the "
                                         "result 8, not 2 and 8"):
        backward.mean_pool_backward(builder, builder.empty(2, 6), np.ones((2, 4), bool),
                                    builder.empty(1, 6), builder.empty(8, 6))
