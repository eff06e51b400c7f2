"""Scales known beforehand: operands of products as codes that count what ``Scales`` say.

``static`` rewrites an op list so that every operand of a GEMM is stored as codes of the format and
everything else in BF16. Rounding is in this order, whatever shares a command:

- What a product reads becomes codes by × 1/s, BF16. Its scale is then the inverse of that.
- A linear layer's sums are × a row, BF16: the scale of its input times that of each output's
  weights, whose codes count what that row leaves them; × one number where weights have one scale.
- Scores are × one number, in which the factor is that they are scaled by.
- A polynomial of scores counts in their own unit, by which its bias and δ are divided: nothing is
  scaled. Its codes, of which 127 is the largest of each row, are divided as a softmax's.
- A softmax is stored as codes of its exponentials and divided after the product with values
  (``lane_ops.DeferredSoftmax``); where a row does not fit a bank, as 127ths.
"""

from collections.abc import Sequence
from dataclasses import replace

from compiler.checkpoints.scales import LARGEST, Scales
from compiler.lowering.coded_list import items_of
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import (
    Add,
    DeferredSoftmax,
    Factor,
    LaneOp,
    Multiply,
    MultiplyAdd,
    MultiplyRows,
    Scale,
    Softmax,
)
from compiler.lowering.ops import Gather, Gemm, Op, OpList, Output, Product, Vector
from compiler.lowering.polynomial_ops import DeferredPolynomial, Polynomial
from compiler.lowering.static_codes import StaticCodes
from compiler.lowering.values import Value
from compiler.lowering.words import word_shift
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_fits

__all__ = ["static"]


def static(listed: OpList, shared: CodedValues, config: AcceleratorConfig, scales: Scales
           ) -> OpList:
    """``listed`` with every operand of a product as codes; ``ScalesError`` for one without a
    scale."""
    return _Static(listed, shared, config, scales).done()


class _Static(StaticCodes):
    """The new list in the making."""

    def done(self) -> OpList:
        ops = list(self._given.ops)
        while ops:
            taken = self._together(ops) or self._alone(ops[0])
            del ops[:taken]
        return OpList(tuple(self._values), tuple(self._ops))

    # Ops

    def _alone(self, op: Op) -> int:
        if isinstance(op, Gemm):
            self._gemm(op)
        elif isinstance(op, Output):
            self._as_it_is(op)
        elif isinstance(op, Gather):
            self._as_it_is(op)
            if op.out.value in self._inverses:
                self._convert(op.out)
        elif isinstance(op, Vector) and not self._softmax(op):
            self._write(op.with_views(
                lambda view, use: view if use is None else self._view(view, use)))
        return 1

    def _together(self, ops: Sequence[Op]) -> int:
        """How many of the first of ``ops`` one op takes the place of: a product and what scales
        it or adds its bias; 0 where none does."""
        first, second = [*ops[:2], None][:2]
        if not isinstance(first, Gemm) or not self._follows(second, first):
            return 0
        lane_op = second.then[0]
        if isinstance(lane_op, Polynomial) and not self._is_linear(first):
            return self._polynomial(first, second, lane_op)
        if isinstance(lane_op, Scale) and not self._is_linear(first) and second.out.is_whole:
            self._gemm(replace(first, out=second.out, products=tuple(
                replace(product, out=replace(product.out, value=second.out.value))
                for product in first.products)), factor=lane_op.factor)
            return 2
        bias = self._bias(first, second)
        if bias is not None:
            self._gemm(replace(first, out=second.out, products=(
                replace(first.products[0], out=second.out),)), bias=bias)
            return 2
        return 0

    def _gemm(self, op: Gemm, factor: float = 1.0, bias: Value | None = None) -> None:
        a, b = self._operands(op)
        then: list[LaneOp] = []
        if self._is_linear(op):
            assert a is not None
            weights, row = self._weights(op, 1 / a)
            if isinstance(row, float):
                then = [Factor(row)]
                if bias is not None:
                    then.append(Add((self._as_wide(bias).whole,)))
            elif bias is None:
                then = [Multiply((row.whole,))]
            else:
                pair = self._shared.pair(f"{bias.name} and scales", row, bias)
                then = [MultiplyAdd((self._declare(pair).whole,))]
            products = [Product(self._coded(product.a), replace(product.b, value=weights),
                                product.out) for product in op.products]
        else:
            assert a is not None and b is not None
            value = op.products[0].a.value
            step = factor / (a * b)
            if value in self._divisors:
                then = [MultiplyRows(tuple(items_of(self._divisors[value], product.a)
                                           for product in op.products))]
                step = factor / b / (LARGEST if self._config.fixed else 1)
            # Scores, so that a softmax may follow in the same list.
            then.append(Scale(step))
            products = [Product(self._coded(product.a), self._coded(product.b), product.out)
                        for product in op.products]
        self._write(replace(op, products=tuple(products), then=tuple(then)))

    def _softmax(self, op: Vector) -> bool:
        """A softmax that is divided later."""
        p = op.out.value
        if [type(lane_op) for lane_op in op.then] != [Softmax] or p in self._plain or (
                not op.out.is_whole or not row_fits(self._config, p.columns)
                or p not in self._inverses):
            return False
        self._divisors[p] = divisors = self._divided(p)
        blocks = [product.a for own in self._given.ops if isinstance(own, Gemm)
                  for product in own.products if product.a.value is p]
        self._ops.append(Vector(self._coded(op.out), self._view(op.x), then=(DeferredSoftmax(
            tuple(items_of(divisors, view) for view in blocks)),)))
        return True

    def _polynomial(self, scores: Gemm, op: Vector, then: Polynomial) -> int:
        """Scores and a polynomial of them that is divided later. What a score counts, s, is left
        out, as ``attention._polynomial`` leaves out a factor."""
        p = op.out.value
        if p in self._plain or not op.out.is_whole or p not in self._inverses:
            raise ValueError(f"{p.name} must be read by products alone with static scales")
        a, b = self._operands(scores)
        assert a is not None and b is not None
        step = 1 / (a * b)
        self._divisors[p] = divisors = self._divided(p)
        items = tuple(items_of(divisors, replace(product.out, value=p))
                      for product in scores.products)
        bias, delta, unit = (tuple(bias / step for bias in then.bias),
                             tuple(delta / step ** then.degree for delta in then.delta), None)
        if self._config.fixed:
            shift = word_shift(scores.products[0].a.columns, then.degree, bias, delta)
            bias = tuple(own * 2.0 ** -shift for own in bias)
            delta = tuple(own * 2.0 ** (-shift * then.degree) for own in delta)
            unit = self._declare(self._shared.unit(shift)).whole
        deferred = DeferredPolynomial(then.y, then.degree, bias, delta, items, unit)
        plain = self._view(scores.out)
        products = tuple(Product(self._coded(product.a), self._coded(product.b),
                                 self._view(product.out)) for product in scores.products)
        self._ops.append(replace(scores, out=plain, products=products))
        self._ops.append(Vector(self._coded(op.out), plain, then=(deferred.with_views(
            lambda view, use: view if view.value is divisors else self._view(view, use)),)))
        return 2
