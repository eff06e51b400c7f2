"""Operations on tensors: RTL against the model in every byte, the model against real arithmetic."""

import numpy as np
import pytest

from compiler.lowering import operations
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine

BETWEEN = (" crossed", " transposed")  # tensors of an operation's own


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Bench:
    """Emits one operation; ``truth`` is what ``out`` should hold."""

    def __init__(self, config, seed):
        self.builder = ProgramBuilder(config, BASE)
        self.rng = np.random.default_rng(seed)
        self.stored = config.format.encodings[0].name

    def tensor(self, rows, columns, encoding="bf16"):
        """A tensor and its values, exact in every format."""
        values = self.rng.integers(-8, 9, (rows, columns)) / 4
        return self.builder.constant(values, encoding), values

    def out(self, rows, columns, encoding="bf16"):
        return self.builder.empty(rows, columns, encoding)


def copy(b, m, n):
    (x, xs), out = b.tensor(m, n, b.stored), b.out(m, n)
    operations.copy(b.builder, x, out)
    return out, xs


def transpose(b, m, n):
    (x, xs), out = b.tensor(m, n), b.out(n, m, b.stored)
    operations.transpose(b.builder, x, out)
    return out, xs.T


def add(b, m, n):
    (x, xs), (y, ys), out = b.tensor(m, n), b.tensor(m, n, b.stored), b.out(m, n)
    operations.add(b.builder, x, y, out)
    return out, xs + ys


def multiply(b, m, n):
    (x, xs), (y, ys), out = b.tensor(m, n, b.stored), b.tensor(m, n), b.out(m, n)
    operations.multiply(b.builder, x, y, out)
    return out, xs * ys


def multiply_by_a_row(b, m, n):
    (x, xs), (y, ys), out = b.tensor(m, n), b.tensor(1, n), b.out(m, n)
    operations.multiply(b.builder, x, y, out)
    return out, xs * ys


def row_means(b, m, n):
    (x, xs), out = b.tensor(m, n), b.out(m, 1)
    operations.row_means(b.builder, x, out)
    return out, xs.mean(axis=1, keepdims=True)


def column_means(b, m, n):
    (x, xs), out = b.tensor(m, n, b.stored), b.out(1, n)
    operations.column_means(b.builder, x, out)
    return out, xs.mean(axis=0, keepdims=True)


def l2_normalise(b, m, n):
    (x, xs), out = b.tensor(m, n), b.out(m, n)
    operations.l2_normalise(b.builder, x, out)
    return out, xs / np.sqrt((xs ** 2).sum(axis=1, keepdims=True) + 1e-24)


def causal_softmax(b, m, n):
    n = max(m, n)  # the last m keys are the rows' own
    (x, xs), out = b.tensor(m, n), b.out(m, n)
    b.builder.vector(x, out, Epilogue(bias=operations.causal_mask(b.builder, m, n), softmax=True))
    seen = np.tri(m, n, n - m, dtype=bool)
    return out, softmax(np.where(seen, xs, -np.inf))


def padded_softmax(b, m, n):
    (x, xs), out = b.tensor(m, n), b.out(m, n)
    valid = np.arange(n) < max(1, n - 2)
    b.builder.vector(x, out, Epilogue(bias=operations.padding_mask(b.builder, valid), softmax=True))
    return out, softmax(np.where(valid, xs, -np.inf))


def rotate(b, m, n):
    size = 2 * n
    (x, xs), out = b.tensor(m, 3 * size, b.stored), b.out(m, 3 * size)
    c, s = operations.rotary_tables(np.arange(5, 5 + m), size, 3, 100.0)
    operations.rotate(b.builder, x, b.builder.constant(c, "bf16"),
                      b.builder.constant(s, "bf16"), out)
    # Each pair rotated as a complex number.
    pairs = xs.reshape(m, 3, 2, n)
    rate = 100.0 ** (-np.arange(n) / n)
    rotated = (pairs[:, :, 0] + 1j * pairs[:, :, 1]) * np.exp(
        1j * np.arange(5, 5 + m)[:, None, None] * rate)
    return out, np.stack([rotated.real, rotated.imag], 2).reshape(m, -1)


OPERATIONS = (copy, transpose, add, multiply, multiply_by_a_row, row_means, column_means,
              l2_normalise, causal_softmax, padded_softmax, rotate)


# Otherwise BF16 lanes round at each of at most four stages; the build's softmax is by bit tricks.
BOUNDS = {copy: 0, transpose: 0, causal_softmax: 0.1, padded_softmax: 0.1}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_on_rtl(operation):
    machine = small_accelerator("posit8")
    compared = 0
    for seed, (m, n) in enumerate([(1, 1), (7, 13), (18, 5)]):
        bench = Bench(machine.config, seed)
        out, truth = operation(bench, m, n)
        memory, address = bench.builder.build(seed=seed)
        own = [t for t in bench.builder.tensors if t.name.endswith(BETWEEN)]
        case = Case(memory, address, BASE, (out, *own), f"{operation.__name__} {m}x{n}")
        compared += compare(machine, case, ("heavy", "light", "ideal")[seed], seed)
        image = memory.copy()
        assert Machine(machine.config).run(image, address, BASE).error is None
        error = np.abs(read(image, out, BASE) - truth)
        assert error.max() <= BOUNDS.get(operation, 2.0 ** -6 * max(1, np.abs(truth).max()))
    print(f"{operation.__name__}: {compared} bytes")
    assert compared > 40


def test_heads_must_be_whole_and_dense():
    builder = ProgramBuilder(AcceleratorConfig("posit8", dim=4))
    for tensor in (builder.empty(3, 10), builder.empty(3, 8, stride=9)):
        with pytest.raises(ValueError, match="must have dense rows of heads of 4, not"):
            operations.heads_as_rows(tensor, 4)
