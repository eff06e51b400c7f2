"""Commands of ops, and what they compute."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.lowering.emit import emit
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.lane_ops import Add, Multiply
from compiler.lowering.lower import lower
from compiler.lowering.ops import Gemm, Product, Vector
from compiler.lowering.place import place
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Life
from compiler.program.builder import ProgramBuilder, read
from compiler.program.records import commands
from hdl.spec.commands import Opcode
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=4)


class Program:
    """Constants of small numbers that every format has, and ops on them."""

    def __init__(self, config=CONFIG):
        self.config, self.trace = config, Tracer()
        self.rng = np.random.default_rng(9)

    def constant(self, name, rows, columns, form=Form.STORED):
        values = self.rng.integers(-2, 3, (rows, columns)).astype(float)
        return self.trace.constant(name, rows, columns, lambda: values, form), values

    def result(self, rows, columns):
        return self.trace.value("out", rows, columns, Life.RESULT, forms=(Form.WIDE,))

    def run(self, change=lambda listed: listed):
        """Fields of the commands, and what ``out`` holds after a run."""
        fused = fuse(change(self.trace.listed()), self.config, Fusion.RESIDUAL)
        builder = ProgramBuilder(self.config)
        places = place(fused, builder)
        self.emitted = emit(fused, places, builder)
        memory, address = builder.build()
        listed = [fields for _, fields in commands(memory, address)]
        assert Machine(self.config).run(memory, address).error is None
        return listed, read(memory, places.results["out"])


def test_scales_are_operands():
    # Per-channel scales and a bias after a product: what 8-bit integers need.
    program = Program()
    (x, xs), (w, ws) = program.constant("x", 5, 6), program.constant("w", 7, 6)
    (scale, scales), (bias, biases) = (program.constant(name, 1, 7, Form.WIDE)
                                       for name in ("scales", "bias"))
    plain, scaled = (program.trace.value(name, 5, 7) for name in ("plain", "scaled"))
    program.trace.product(x.whole, w, None, plain, "x")
    program.trace.multiply(plain.whole, scale.whole, scaled)
    out = program.result(5, 7)
    program.trace.add(scaled.whole, [bias.whole], out)
    listed, found = program.run()
    assert [fields["opcode"] for fields in listed] == [Opcode.GEMM, Opcode.END]
    assert listed[0]["y0_stride"] == listed[0]["y1_stride"] == 0
    assert np.array_equal(found, xs @ ws.T * scales + biases)
    assert program.emitted.macs == 5 * 7 * 6 and program.emitted.written == ("out", "")


def test_a_backward_product_reads_the_forward_pass():
    # dW = dYᵀ · X, with X read from the forward pass and dY transposed in place.
    program = Program()
    (x, xs), (w, ws), (dy, dys) = (program.constant(*spec) for spec in (
        ("x", 5, 6), ("w", 7, 6), ("dy", 5, 7)))
    hidden = program.trace.value("hidden", 5, 7)
    program.trace.product(x.whole, w, None, hidden, "hidden")
    program.trace.vector(hidden.whole, None, program.trace.value("next", 5, 7, Life.RESULT))
    out = program.result(7, 6)

    def backward(listed):
        op = Gemm(out.whole, (Product(dy.whole, x.whole, out.whole),), a_transposed=True,
                  b_transposed=False)
        return replace(listed, ops=(*listed.ops, op))

    listed, found = program.run(backward)
    assert listed[-2]["a_transposed"] and not listed[-2]["b_transposed"]
    assert np.array_equal(found, dys.T @ xs)
    assert program.emitted.macs == 2 * 5 * 7 * 6 and ws.shape == (7, 6)


def test_lists_that_keep_their_block_are_cut_into_columns():
    program = Program(AcceleratorConfig("posit8", dim=4, acc_depth=16))
    (x, xs), (w, ws) = program.constant("x", 3, 5), program.constant("w", 150, 5)
    (bias, biases), (y, ys) = program.constant("bias", 1, 150), program.constant("y", 3, 150)
    plain, biased = (program.trace.value(name, 3, 150) for name in ("plain", "biased"))
    program.trace.product(x.whole, w, None, plain, "x")
    program.trace.add(plain.whole, [bias.whole], biased)
    program.trace.add_residual(biased.whole, y.whole, program.result(3, 150))
    listed, found = program.run()
    assert [fields["n"] for fields in listed[:-1]] == [64, 64, 22]
    assert np.array_equal(found, xs @ ws.T + biases + ys)
    assert program.emitted.macs == 3 * 150 * 5


@pytest.mark.parametrize("kind", ["gemm", "vector", "gather"])
def test_blocks_of_rows_have_operands_of_their_own(kind):
    program = Program()
    trace, parts = program.trace, [program.constant(f"y{i}", 2, 4) for i in range(2)]
    views = [parts[0][0].whole, None, parts[1][0].whole]
    added = np.concatenate([parts[0][1], np.zeros((2, 4)), parts[1][1]])
    (x, xs), plain = program.constant("x", 6, 4), trace.value("plain", 6, 4)
    if kind == "gemm":
        w, ws = program.constant("w", 4, 4)
        trace.product(x.whole, w, None, plain, "x")
        wanted = xs @ ws.T
    elif kind == "gather":
        rows = [[5, 0], [3, 3], [1, 2]]
        ids = [trace.constant("ids", 2, 1, lambda part=part: np.array(part), Form.INDICES)
               for part in rows]
        trace.gather(x.whole, ids, plain)
        wanted = xs[np.ravel(rows)]
    else:
        plain, wanted = x, xs
    trace.add(plain.whole, views, program.result(6, 4))
    listed, found = program.run()
    assert len(listed) == 4 and [fields["m"] for fields in listed[:-1]] == [2, 2, 2]
    assert np.array_equal(found, wanted + added)


def test_what_commands_cannot_do_is_one_line():
    program = Program()
    x, y = program.constant("x", 6, 4)[0], program.constant("y", 6, 4)[0]
    halves, thirds = (tuple(y.whole.row_block(6 // count * i, 6 // count) for i in range(count))
                      for count in (2, 3))
    out = program.result(6, 4)

    def emitted(op):
        listed = replace(program.trace.listed(), ops=(op,))
        fused = fuse(listed, CONFIG, Fusion.RESIDUAL)
        builder = ProgramBuilder(CONFIG)
        emit(fused, place(fused, builder), builder)

    for op, message in [
            (Vector(out.whole, x.whole, then=(Add(halves), Multiply(thirds))),
             "out must have operands of one number of blocks"),
            (Vector(out.whole, x.whole, then=(Add((y.whole,)),) * 3), "one command cannot do"),
            (Gemm(out.whole, (Product(x.whole, y.whole, out.whole),), a_transposed=True,
                  b_transposed=False, then=(Add(halves),)), "out must have one block, for Aᵀ")]:
        with pytest.raises(ValueError, match=message):
            emitted(op)


@pytest.mark.parametrize("family", SAMPLES)
def test_every_command_is_named(family):
    model = SAMPLES[family]()
    program = lower(CONFIG, model, inputs_for(model, 4), keep=True)
    listed = [fields for _, fields in commands(program.memory, program.address, program.base)]
    assert len(listed) == len(program.written)
    for fields, name in zip(listed, program.written, strict=True):
        works = fields["opcode"] in (Opcode.GEMM, Opcode.VECTOR)
        assert bool(name) == works
        if works and name in program.results:
            tensor = program.results[name]
            assert tensor.address <= fields["c_address"] < tensor.address + tensor.span
