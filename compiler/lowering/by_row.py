"""Scales by row: operands of products as codes beside the largest magnitude of each row.

A format without an exponent, ``int8``, holds a tensor as integers of which the largest of a row is
±127, and that row's largest magnitude, a BF16 word. ``by_row`` rewrites an op list so that every
operand of a GEMM is stored that way and everything else in BF16:

- Of an activation magnitudes and codes are found at run time, once for all that reads them; a head
  of queries or keys has its own, out of the array where a linear layer gives them
  (``compiler.lowering.projected``).
- Of weights they are constants: a row of weights is an output channel.
- A · Bᵀ leaves the array as integers; × the magnitudes of A's rows, an item for each row of the
  result, × those of B's rows, one for each column, × 1/127² makes numbers of them.
- A · B sums over B's rows: their magnitudes are multiplied into A before A has codes.
- A softmax that nothing hides or bends is stored as codes of its exponentials, 127 the largest of
  each row, and divided by their sums after the product with values; these then have one magnitude
  for a sequence, since a product sums over their rows.
- So is a polynomial of scores, of which 127 is the largest of each row.
- A bias lies behind its scales, and LayerNorm of a sum is one op.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from compiler.checkpoints.scales import LARGEST
from compiler.lowering import integer_lists, lists
from compiler.lowering.coded_list import items_of
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import (
    Factor,
    LaneOp,
    Listed,
    Multiply,
    MultiplyAdd,
    MultiplyRows,
    Scale,
    Softmax,
)
from compiler.lowering.ops import Gemm, Op, OpList, Output, Product, Vector
from compiler.lowering.polynomial_ops import Polynomial
from compiler.lowering.row_codes import Coded
from compiler.lowering.sum_norms import SumNorms
from compiler.lowering.values import Counts, Form, Life, Read, Use, Value, View
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_fits

__all__ = ["by_row"]


def by_row(listed: OpList, shared: CodedValues, config: AcceleratorConfig) -> OpList:
    """``listed`` with every operand of a product as codes and magnitudes of its rows."""
    return _Rows(listed, shared, config).done()


class _Rows(SumNorms):
    """The new list in the making."""

    def __init__(self, listed: OpList, shared: CodedValues, config: AcceleratorConfig) -> None:
        super().__init__(listed, shared, config)
        # Of probabilities the codes of their exponentials, and what their rows' sums divide by.
        self._deferred: dict[Value, tuple[Value, Value]] = {}

    def done(self) -> OpList:
        ops = list(self._given.ops)
        while ops:
            taken = self._together(ops)
            if not taken:
                self._take(ops[0])
            del ops[:taken or 1]
        return OpList(tuple(self._values), tuple(self._ops))

    def _together(self, ops: Sequence[Op]) -> int:
        """How many of the first of ``ops`` one op takes the place of; 0 where none does."""
        if taken := self._attention(ops):
            return taken
        first, second = [*ops[:2], None][:2]
        if not self._follows(second, first) or not row_fits(self._config, second.out.columns):
            return 0
        if taken := self._linear_and_norm(ops):
            return taken
        if isinstance(first, Gemm):
            bias = self._bias(first, second)
            if bias is None:
                return 0
            if second.out.is_whole and self._projected(first, second.out.value, bias):
                return 2
            self._gemm(replace(first, out=second.out, products=(
                replace(first.products[0], out=second.out),)), bias)
        elif self._is_sum_norm(first, second):
            self._sum_norm(first, second)
        else:
            return 0
        self._written(second.out)
        return 2

    def _attention(self, ops: Sequence[Op]) -> int:
        """How many of ``ops`` are scores and their softmax, or a polynomial of them, as codes of
        what is to be divided when it has been multiplied with values
        (``lists.deferred_softmax_of_codes``); 0 where the first are not."""
        scores, *after = ops[:3]
        kinds = [type(lane_op) for op in after if isinstance(op, Vector) for lane_op in op.then]
        count = 3 if kinds == [Scale, Softmax] else 2 if kinds[:1] == [Polynomial] else 0
        after = after[:count - 1]
        if not (count and isinstance(scores, Gemm) and scores.b_transposed and not scores.then
                and all(self._follows(op, before) for before, op in pairwise(ops[:count]))
                and after[-1].out.is_whole
                and scores.products[0].b.value.life != Life.CONSTANT
                and not list(after[-1].then[0].reads)
                and row_fits(self._config, scores.out.columns)
                and self._is_of_heads(after[-1].out.value)):
            return 0
        self._defer(scores, after[-1].out.value, [op.then[0] for op in after])
        return count

    def _defer(self, scores: Gemm, p: Value, then: Sequence[LaneOp]) -> None:
        divisors = self._divided(p)
        codes = self._declare(Value(f"{p.name} codes", *p.shape, forms=(Form.STORED,),
                                    counts=Counts(1.0, divisors)))
        self._deferred[p] = codes, divisors
        products, operands = [], []
        for product in scores.products:
            a, b = self._coded(product.a), self._coded(product.b)
            out = replace(product.out, value=codes)
            products.append(Product(a.codes, b.codes, out))
            operands.append(tuple(Read(view, Use.LANES)
                                  for view in (a.top, b.row, items_of(divisors, out))))
        self._ops.append(Gemm(codes.whole, tuple(products),
                              then=(_deferred(then, tuple(operands)),)))

    def _is_of_heads(self, p: Value) -> bool:
        """Whether probabilities are multiplied with values alone, which no cache keeps: those have
        one scale for all positions."""
        readers = [op for op in self._given.ops if any(read.view.value is p for read in op.reads)]
        return len(readers) == 1 and isinstance(readers[0], Gemm) and (
            not readers[0].b_transposed and not readers[0].then
            and [product.a for product in readers[0].products] == _blocks(
                p, readers[0].products[0].a.rows)
            and all(product.b.value.life == Life.TEMPORARY and product.b.value is
                    readers[0].products[0].b.value for product in readers[0].products))

    def _heads(self, op: Gemm) -> None:
        """Products of codes of exponentials with codes of values, of which a sequence's have one
        scale."""
        codes, divisors = self._deferred[op.products[0].a.value]
        places: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for product in op.products:
            first, column = divmod(product.b.offset, product.b.value.columns)
            places.setdefault((first, product.b.rows), []).append((column, product.b.columns))
        value, found = op.products[0].b.value, {}
        for (first, rows), columns in places.items():
            start = min(column for column, _ in columns)
            end = max(column + width for column, width in columns)
            found[first, rows] = start, self._tensor(value.whole.block(
                first, start, rows, end - start))
        products, tops = [], []
        for product in op.products:
            first, column = divmod(product.b.offset, value.columns)
            start, (own, top) = found[first, product.b.rows]
            products.append(Product(
                replace(product.a, value=codes),
                own.whole.block(0, column - start, *product.b.shape), self._view(product.out)))
            tops.append(top.whole)
        rows = tuple(items_of(divisors, product.a) for product in op.products)
        self._ops.append(Gemm(self._view(op.out), tuple(products), b_transposed=False, then=(
            MultiplyRows(rows), MultiplyRows(tuple(tops[:1] if len(found) == 1 else tops)),
            Factor(1 / LARGEST))))

    def _take(self, op: Op) -> None:
        if isinstance(op, Gemm):
            self._gemm(op)
        else:
            self._as_it_is(op)
        if not isinstance(op, Output):
            self._written(op.out)

    def _linear(self, op: Gemm, bias: Value) -> None:
        self._gemm(op, bias)

    def _gemm(self, op: Gemm, bias: Value | None = None) -> None:
        """``bias``: of the columns of a single product with a constant."""
        if op.products[0].a.value in self._deferred:
            self._heads(op)
            return
        if op.a_transposed:
            raise ValueError(f"{op.out.value.name} must not be of a transposed operand with "
                             "scales by row")
        b = [self._coded(product.b, product.b.value.life == Life.CONSTANT)
             for product in op.products]
        given = [product.a for product in op.products]
        a = [self._coded(view) for view in (given if op.b_transposed else self._weighed(op, b))]
        then: list[LaneOp] = [MultiplyRows(tuple(rows.top for rows in a))]
        if bias is not None:
            pair = self._shared.pair(f"{bias.name} and scales", b[0].top.value, bias)
            then.append(MultiplyAdd((self._declare(pair).whole,)))
        elif op.b_transposed:
            then.append(Multiply(tuple(rows.row for rows in b)))
        folded, = {right.folded for right in b}
        if not folded:
            then.append(Factor(LARGEST ** -2))
        products = tuple(Product(left.codes, right.codes, self._view(product.out))
                         for left, right, product in zip(a, b, op.products, strict=True))
        after = tuple(lane_op.with_views(self._view) for lane_op in op.then)
        self._ops.append(Gemm(self._view(op.out), products, b_transposed=op.b_transposed,
                              then=(*then, *after)))

    def _weighed(self, op: Gemm, b: Sequence[Coded]) -> list[View]:
        """Views of A whose columns are multiplied by the magnitudes of B's rows."""
        whole, height = op.products[0].a.value, op.products[0].a.rows
        views = _blocks(whole, height)
        if [product.a for product in op.products] != views or any(rows.folded for rows in b):
            raise ValueError(f"{whole.name} must be made of equal blocks of rows with scales by "
                             "row")
        weighed = self._declare(Value(f"{whole.name} weighed", *whole.shape))
        self._ops.append(Vector(weighed.whole, self._view(whole.whole),
                                then=(Multiply(tuple(rows.row for rows in b)),)))
        return [replace(view, value=weighed) for view in views]


def _blocks(value: Value, height: int) -> list[View]:
    """Equal blocks of its rows."""
    return [value.whole.row_block(index * height, height)
            for index in range(value.rows // height)]


def _deferred(then: Sequence[LaneOp], operands: tuple[tuple[Read, ...], ...]) -> LaneOp:
    """What is done to scores that are codes: their scale and softmax, or a polynomial."""
    first = then[0]
    if isinstance(first, Scale):
        factor = LARGEST ** -2 * first.factor
        return Listed("deferred softmax", lambda tensors: lists.deferred_softmax_of_codes(
            factor, *tensors), operands)
    assert isinstance(first, Polynomial), "nothing else is deferred"
    unit, degree = LARGEST ** 2, first.degree
    each = tuple(partial(integer_lists.deferred_polynomial_of_codes, degree, bias * unit,
                         delta * unit ** degree)
                 for bias, delta in zip(first.bias, first.delta, strict=True))
    makes = tuple(lambda tensors, make=make: make(*tensors) for make in each)
    return Listed("deferred polynomial", makes[0], operands, makes)
