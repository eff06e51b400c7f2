"""What is rounded where, and which ops share a command."""

import numpy as np
import pytest

from compiler.checkpoints.samples import SAMPLES, bert, inputs_for, llama
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.lane_ops import Add, AddResidual, Apply, Scale, Softmax
from compiler.lowering.lower import trace
from compiler.lowering.ops import Gemm, Output, Product, Vector
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Life, Use
from hdl.spec.config import AcceleratorConfig

CONFIG = AcceleratorConfig("posit8", dim=4)
STORED, WIDE = (Form.STORED,), (Form.WIDE,)


class Listing:
    """x · W, then steps one after the other; what ``fuse`` makes of it."""

    def __init__(self):
        self.trace = Tracer()
        self.x = self.trace.value("x", 3, 4)
        weight = self.trace.parameter(np.ones((5, 4)), Form.STORED, "W")
        self.values = [self.trace.value("product", 3, 5)]
        self.trace.product(self.x.whole, weight, None, self.values[0], "product")
        self.y = self.trace.value("y", 3, 5)

    def then(self, step, life=Life.TEMPORARY):
        out = self.trace.value(f"step {len(self.values)}", 3, 5, life)
        self.trace.vector(self.values[-1].whole, step, out)
        self.values.append(out)
        return self

    def fused(self, level=Fusion.RESIDUAL, config=CONFIG):
        return fuse(self.trace.listed(), config, level)


def steps(fused):
    return [[type(step) for step in op.then] for op in fused.ops]


@pytest.mark.parametrize("level", Fusion, ids=lambda level: level.name.lower())
def test_a_class_joins_from_its_level_on(level):
    for kind, step in [(Fusion.SCALING, Scale(0.5)), (Fusion.ACTIVATION, Apply("gelu")),
                       (Fusion.ACTIVATION, Softmax())]:
        fused = Listing().then(step).fused(level)
        joined = level.fuses(kind)
        assert steps(fused) == ([[type(step)]] if joined else [[], [type(step)]])
        if not joined:
            assert fused.ops[0].out.form == fused.ops[1].x.form == Form.STORED
    listing = Listing()
    listing.then(AddResidual((listing.y.whole,)))
    fused = listing.fused(level)
    assert len(fused.ops) == (1 if level == Fusion.RESIDUAL else 2)
    assert fused.forms[listing.y] == (WIDE if level == Fusion.RESIDUAL else STORED)


def test_nobody_joins_what_another_reads_or_what_stays():
    listing = Listing().then(Scale(0.5))
    listing.trace.add(listing.values[0].whole, [listing.y.whole], listing.y)
    fused = listing.fused()
    assert steps(fused) == [[], [Scale], [Add]] and fused.forms[listing.values[0]] == WIDE
    assert steps(Listing().then(Scale(0.5), Life.RESULT).then(Scale(2.0)).fused()) == [
        [Scale], [Scale]]
    # In forms of its own it is stored whoever reads it.
    listing = Listing()
    out, last = (listing.trace.value(name, 3, 5, forms=WIDE) for name in ("out", "last"))
    listing.trace.vector(listing.values[0].whole, Scale(0.5), out)
    listing.trace.vector(out.whole, Scale(0.5), last)
    assert steps(listing.fused()) == [[Scale], [Scale]]


def test_nobody_joins_across_a_change_of_its_operands():
    listing = Listing()
    listing.trace.vector(listing.y.whole, None, listing.x)
    listing.then(Scale(0.5))
    assert steps(listing.fused()) == [[], [], [Scale]]
    listing = Listing()
    listing.trace.vector(listing.y.whole, None, listing.trace.value("other", 3, 5))
    listing.then(Scale(0.5))
    assert steps(listing.fused()) == [[], [Scale]]


def test_parts_of_values_do_not_join():
    listing = Listing()
    out = listing.trace.value("out", 2, 5)
    listing.trace.vector(listing.values[0].whole.row_block(0, 2), Scale(0.5), out)
    assert steps(listing.fused()) == [[], [Scale]]


def test_both_forms_are_bf16_and_a_copy_of_it():
    listing = Listing().then(Scale(0.5))
    listing.trace.output(listing.values[-1], Use.RESIDUAL, Use.OPERAND)
    fused = listing.fused()
    assert fused.forms[listing.values[-1]] == (Form.WIDE, Form.STORED)
    first, copy, _ = fused.ops
    assert isinstance(copy, Vector) and not copy.then
    assert (first.out.form, copy.x.form, copy.out.form) == (*WIDE, *WIDE, *STORED)
    single = listing.fused(Fusion.NONE)
    assert single.forms[listing.values[-1]] == STORED
    assert len(listing.fused(config=AcceleratorConfig("bf16", dim=4)).ops) == 2


def test_a_product_joins_in_each_of_its_parts():
    tracer = Tracer()
    x, keys = tracer.value("x", 6, 4), tracer.value("keys", 5, 8)
    scores, out = tracer.value("scores", 6, 5), tracer.value("out", 6, 5, Life.RESULT)
    masks = [tracer.value("mask", 1, 5).whole, None]
    tracer.gemm([Product(x.whole.row_block(3 * i, 3), keys.whole.block(0, 4 * i, 5, 4),
                         scores.whole.row_block(3 * i, 3)) for i in range(2)], scores)
    tracer.add(scores.whole, masks, out)
    (op,) = fuse(tracer.listed(), CONFIG, Fusion.RESIDUAL).ops
    assert isinstance(op, Gemm) and [part.out.value for part in op.products] == [out, out]
    assert [part.out.offset for part in op.products] == [0, 15] and op.blocks == 2
    # Of three blocks of rows nobody makes two products.
    tracer.add(out.whole, [masks[0]] * 3, tracer.value("more", 6, 5))
    assert fuse(tracer.listed(), CONFIG, Fusion.RESIDUAL).ops[0].blocks == 2


def test_values_keep_the_order_of_declaration():
    tracer = Tracer()
    first, second = tracer.value("first", 3, 5), tracer.value("second", 3, 5)
    x = tracer.value("x", 3, 4)
    tracer.product(x.whole, tracer.parameter(np.ones((5, 4)), Form.STORED, "W"), None, second, "")
    tracer.vector(second.whole, Scale(0.5), first)
    fused = fuse(tracer.listed(), CONFIG, Fusion.RESIDUAL)
    assert [value.name for value in fused.values] == ["first", "x", "W"]
    # What is left of a chain stands where the first of its values did.
    values = Listing().then(Scale(0.5)).fused().values
    assert [value.name for value in values] == ["x", "W", "step 1"]


def test_a_mask_over_rows_that_do_not_stay_on_chip_goes_through_bf16():
    small = {"dim": 4, "acc_depth": 16}
    model, inputs = llama(layers=1), inputs_for(llama(), 70)
    listed = trace(model, inputs, range(1))
    counts = []
    for depth in (16, 64):
        config = AcceleratorConfig("posit8", dim=4, acc_depth=depth)
        fused = fuse(listed, config, Fusion.RESIDUAL)
        scores = [op for op in fused.ops if op.then and isinstance(op.then[-1], Softmax)]
        counts.append(len(fused.ops))
        (op,) = scores
        assert isinstance(op, Vector if depth == 16 else Gemm)
        if depth == 16:
            assert op.x.form == Form.WIDE
    assert counts[0] == counts[1] + 1
    lanes = AcceleratorConfig("bf16", **small)
    with pytest.raises(ValueError, match="a mask in FP32 lanes takes at most 64 positions .* 70"):
        fuse(listed, lanes, Fusion.ACTIVATION)
    assert fuse(listed, lanes, Fusion.SCALING).ops  # what is rounded anyway takes any length


@pytest.mark.parametrize("family", SAMPLES)
def test_levels_only_choose_what_is_rounded(family):
    model = SAMPLES[family]()
    listed = trace(model, inputs_for(model, 4))
    every = [step for op in listed.ops for step in op.then]
    for level in Fusion:
        fused = fuse(listed, CONFIG, level)
        assert len([step for op in fused.ops for step in op.then]) == len(every)
        for op in fused.ops:
            for read in () if isinstance(op, Output) else op.reads:
                has = fused.forms[read.view.value]
                wanted = read.use.form(level)
                assert read.view.form == (wanted if wanted in has else has[0])
                # BF16 never takes the place of what a level rounds, parameters aside.
                if read.view.value.life != Life.CONSTANT:
                    assert read.view.form == wanted or read.use == Use.LANES


def test_fusing_changes_nothing_of_what_it_gets():
    model = bert()
    listed = trace(model, inputs_for(model, 4))
    before = listed.lines(), listed.values
    fuse(listed, CONFIG, Fusion.RESIDUAL)
    assert (listed.lines(), listed.values) == before and not listed.forms
