"""Views address the items that they say; op lists tell who reads and who writes."""

import dataclasses

import numpy as np
import pytest

from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.lowering.fusion import Fusion
from compiler.lowering.lane_ops import Add, AddResidual, Normalise
from compiler.lowering.lower import trace
from compiler.lowering.ops import Gemm, Output, Vector
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Life, Use, Value


def items(view):
    """The numbers of the items that a view names, of a value that holds 0, 1, 2 …"""
    held = np.arange(view.value.rows * view.value.columns)
    return np.array([held[view.offset + row * view.stride:][:view.columns]
                     for row in range(view.rows)])


def test_views_name_the_items_of_numpy():
    value = Value("x", 6, 12)
    held = np.arange(72).reshape(6, 12)
    whole = value.whole
    assert whole.is_whole and np.array_equal(items(whole), held)
    for view, wanted in [
            (whole.block(2, 3, 3, 5), held[2:5, 3:8]), (whole.row_block(4, 2), held[4:]),
            (whole.split(4), held.reshape(18, 4)), (whole.every(2, 1), held[1::2]),
            (whole.row_block(1, 1).block(0, 2, 1, 8).split(2), held[1, 2:10].reshape(4, 2)),
            (whole.split(4).block(0, 1, 18, 2), held.reshape(18, 4)[:, 1:3]),
            (whole.block(1, 2, 4, 6).every(3, 0), held[1:5, 2:8][::3])]:
        assert np.array_equal(items(view), wanted) and view.shape == wanted.shape
        assert not view.is_whole


@pytest.mark.parametrize("misuse, message", [
    (lambda x: x.block(0, 0, 7, 1), r"block of x must lie inside 6×12, not 7×1 from \(0, 0\)"),
    (lambda x: x.block(0, -1, 1, 1), "block of x must lie inside"),
    (lambda x: x.split(5), "x must have rows without gaps of 5 items each"),
    (lambda x: x.block(0, 0, 2, 8).split(4), "x must have rows without gaps of 4 items each")])
def test_misuse_of_views(misuse, message):
    with pytest.raises(ValueError, match=message):
        misuse(Value("x", 6, 12).whole)


def test_uses_and_levels():
    rounded = {level: {use for use in Use if use.form(level) == Form.STORED} for level in Fusion}
    classes = [Use.SCALING, Use.ACTIVATION, Use.NORM, Use.RESIDUAL]
    for level in Fusion:
        assert rounded[level] == {Use.OPERAND, *classes[level:]}


def test_everything_is_frozen():
    trace_ = Tracer()
    x, out = trace_.value("x", 2, 3), trace_.value("out", 2, 3)
    trace_.add(x.whole, [x.whole], out)
    listed = trace_.listed()
    for thing in (listed, listed.ops[0], listed.ops[0].then[0], x, x.whole):
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.name = "other"
    assert len({x, Value("x", 2, 3)}) == 2  # equal fields, another value


@pytest.mark.parametrize("family", SAMPLES)
def test_a_trace_has_one_lane_op_an_op_and_says_who_reads(family):
    model = SAMPLES[family]()
    listed = trace(model, inputs_for(model, 4))
    readers, writers = listed.readers(), listed.writers()
    assert all(len(op.then) <= 1 for op in listed.ops)
    for value in listed.values:
        made = value.life != Life.CONSTANT
        assert made == (value in writers), value.name
        assert value in readers or value.life == Life.RESULT, value.name
    for op in listed.ops:
        for read in op.reads:
            assert (op, read) in readers[read.view.value]
    # A backward pass finds its counterparts: every product, residual addition and norm by kind.
    kinds = [type(op.then[0]) for op in listed.ops if op.then]
    layers = len(model.blocks)
    assert kinds.count(AddResidual) == 2 * layers
    assert kinds.count(Normalise) >= 2 * layers
    assert sum(isinstance(op, Gemm) for op in listed.ops) >= 6 * layers
    assert len(listed.lines()) == len(listed.ops)


def test_ops_as_text():
    trace_ = Tracer()
    x, w = trace_.value("x", 2, 3), trace_.parameter(np.ones((4, 3)), Form.STORED, "W")
    out, more = trace_.value("y", 2, 4), trace_.value("z", 4, 2)
    trace_.product(x.whole, w, None, out, "y")
    trace_.vector(out.whole, Add((out.whole.row_block(0, 1), None)), out)
    trace_.vector(out.whole, None, more, transposed=True)
    trace_.output(more, Use.OPERAND, Use.NORM)
    assert trace_.listed().lines() == [
        "   0 gemm   y[2×4] ← x[2×3] · W[4×3]ᵀ",
        "   1 vector y[2×4] ← y[2×4]; + y[1×4+0/4] and others, 2 blocks",
        "   2 vector z[4×2] ← y[2×4] transposed",
        "   3 output z[4×2] for operand, norm"]


def test_blocks_must_agree():
    x, y = Value("x", 6, 4), Value("y", 6, 4)
    rows, parts = y.whole.row_block(0, 1), tuple(y.whole.row_block(2 * i, 2) for i in range(3))
    for then, blocks in [((), 1), ((Add((y.whole,)),), 1), ((Add(parts),), 3),
                          ((Add(parts), Add((rows,))), 3), ((Add(parts), Add(parts[:2])), None),
                          ((Add(parts), Add((y.whole,))), None)]:
        assert Vector(x.whole, x.whole, then=then).blocks == blocks
    assert Vector(x.whole, x.whole, True, then=(Add(parts),)).blocks is None
    assert Output(x.whole, (Use.NORM,)).blocks == 1
