"""Scales known beforehand: operands of products as codes that count what ``Scales`` say.

``static`` rewrites an op list so that every operand of a GEMM is stored as codes of the format and
everything else in BF16. Rounding is in this order, whatever shares a command:

- What a product reads becomes codes by × 1/s, BF16. Its scale is then the inverse of that.
- A linear layer's sums are × a row, BF16: the scale of its input times that of each output's
  weights, whose codes count what that row leaves them; × one number where weights have one scale.
- Scores are × one number, in which the factor is that they are scaled by.
- A softmax is stored as codes of its exponentials and divided after the product with values
  (``lane_ops.DeferredSoftmax``); where a row does not fit a bank, as 127ths.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from compiler.checkpoints.scales import LARGEST, Scales, ScalesError
from compiler.lowering.coded_list import CodedList
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.epilogues import fits_one_list
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
from compiler.lowering.values import Counts, Form, Life, Use, Value, View
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from hdl.spec.timing import row_fits
from sim.model.rounding import round_to

__all__ = ["static"]


def static(listed: OpList, shared: CodedValues, config: AcceleratorConfig, scales: Scales
           ) -> OpList:
    """``listed`` with every operand of a product as codes; ``ScalesError`` for one without a
    scale."""
    return _Static(listed, shared, config, scales).done()


def _inverse(scale: float) -> float:
    """By what an operand is multiplied."""
    return float(round_to(BFLOAT16, np.float64([1 / scale]))[0])


class _Static(CodedList):
    """The new list in the making."""

    def __init__(self, listed: OpList, shared: CodedValues, config: AcceleratorConfig,
                 scales: Scales) -> None:
        super().__init__(shared)
        self._given, self._config, self._scales = listed, config, scales
        self._readings = Counter(read.view.value for op in listed.ops for read in op.reads)
        products = [op for op in listed.ops if isinstance(op, Gemm)]
        # Of each value that products read by what its columns are multiplied to be codes.
        self._inverses: dict[Value, np.ndarray] = {}
        for op in products:
            self._note(op)
        self._plain = {read.view.value for op in listed.ops for read in op.reads
                       if isinstance(op, Output) or read.use != Use.OPERAND}
        self._codes: dict[Value, Value] = {}
        self._divisors: dict[Value, Value] = {}

    def done(self) -> OpList:
        ops = list(self._given.ops)
        while ops:
            taken = self._together(ops) or self._alone(ops[0])
            del ops[:taken]
        return OpList(tuple(self._values), tuple(self._ops))

    # Scales

    def _operands(self, op: Gemm) -> tuple[float | None, float | None]:
        """Inverses of the scales of A and of B, where they are no constants of the model."""
        place = self._place(op)
        if self._is_linear(op):
            found = {name: self._scales.of(f"{name}.input") for name, _ in op.of}
            if len(set(found.values())) > 1:
                raise ScalesError(f"scales of {', '.join(found)} must be one, for these read one "
                                  "tensor")
            return _inverse(next(iter(found.values()))), None
        if op.b_transposed:
            return (_inverse(self._scales.of(f"{place}.queries")),
                    _inverse(self._scales.of(f"{place}.keys")))
        return LARGEST, _inverse(self._scales.of(f"{place}.values"))

    @staticmethod
    def _is_linear(op: Gemm) -> bool:
        return op.products[0].b.value.life == Life.CONSTANT

    @staticmethod
    def _place(op: Gemm) -> str:
        """Of the attention that ``op`` is a part of."""
        if not op.of or not all(name for name, _ in op.of) or op.a_transposed:
            raise ValueError(f"{op.out.value.name} must be a product of the model's own with "
                             "static scales")
        return op.of[0][0].rpartition(".")[0]

    def _note(self, op: Gemm) -> None:
        for product in op.products:
            for view, inverse in zip((product.a, product.b), self._operands(op), strict=True):
                if inverse is None:
                    continue
                value = view.value
                columns = self._inverses.setdefault(value, np.full(value.columns, np.nan))
                starts = (view.offset + view.stride * np.arange(view.rows)) % value.columns
                places = np.unique(starts)[:, None] + np.arange(view.columns)
                own = columns[places]
                if (~np.isnan(own) & (own != inverse)).any():
                    raise ScalesError(f"scales of {value.name} must be one for all that reads it")
                columns[places] = inverse

    # Codes

    def _coded(self, view: View) -> View:
        """The same part of the codes of its value."""
        value = view.value
        if value not in self._codes:
            self._codes[value] = self._codes_of(value)
            if value.life == Life.CONSTANT:  # inputs: no op writes them
                self._convert(value.whole)
        return replace(view, value=self._codes[value])

    def _codes_of(self, value: Value) -> Value:
        inverses = self._inverses[value]
        inverses = inverses[~np.isnan(inverses)]
        items, counts = self._divisors.get(value), None
        if items is not None:
            counts = Counts(1.0, items)
        elif (inverses == inverses[0]).all():
            counts = Counts(1 / float(inverses[0]))

        def make(life: Life) -> Value:
            return Value(f"{value.name} codes", *value.shape, life, (Form.STORED,), counts=counts)

        if value.life == Life.STATE:
            return self._declare(self._shared.made(value, "codes", partial(make, Life.KEPT)))
        return self._declare(make(Life.TEMPORARY))

    def _to_codes(self, out: View) -> LaneOp:
        """What makes codes of a part of a value."""
        inverses = self._inverses[out.value]
        start = out.offset % out.value.columns
        own = inverses[start:start + out.columns] if out.columns <= out.value.columns else inverses
        known = own[~np.isnan(own)]
        if (known == known[0]).all():
            return Factor(float(known[0]))
        row = np.where(np.isnan(own), known[0], own)
        constant = self._declare(self._shared.made(out.value, ("inverses", row.tobytes()),
                                                   lambda: Value(
            f"{out.value.name} inverses", 1, len(row), Life.CONSTANT, (Form.WIDE,),
            make=lambda: row[None])))
        return Multiply((constant.whole,))

    def _convert(self, out: View) -> None:
        self._ops.append(Vector(self._coded(out), self._view(out), then=(self._to_codes(out),)))

    def _write(self, op: Gemm | Vector) -> None:
        """``op``, whose operands are settled; its result as BF16, as codes, or as both."""
        value = op.out.value
        if value not in self._inverses:
            self._ops.append(_to(op, self._view))
            return
        then = (*op.then, self._to_codes(op.out))
        if value not in self._plain and value.life in (Life.TEMPORARY, Life.STATE) and (
                fits_one_list(then)):
            self._ops.append(_to(replace(op, then=then), self._coded))
            return
        self._ops.append(_to(op, self._view))
        self._convert(op.out)

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
        if not (isinstance(first, Gemm) and isinstance(second, Vector) and not second.transposed
                and len(second.then) == 1 and second.x == first.out and first.out.is_whole
                and self._readings[first.out.value] == 1
                and first.out.value.life == Life.TEMPORARY):
            return 0
        lane_op = second.then[0]
        if isinstance(lane_op, Polynomial) and not self._is_linear(first):
            return self._polynomial(first, second, lane_op)
        if isinstance(lane_op, Scale) and not self._is_linear(first) and second.out.is_whole:
            self._gemm(replace(first, out=second.out, products=tuple(
                replace(product, out=replace(product.out, value=second.out.value))
                for product in first.products)), factor=lane_op.factor)
            return 2
        if type(lane_op) is Add and self._is_linear(first) and len(first.products) == 1 and (
                len(lane_op.y) == 1 and lane_op.y[0] is not None and lane_op.y[0].is_whole
                and lane_op.y[0].rows == 1 and lane_op.y[0].value.life == Life.CONSTANT):
            self._gemm(replace(first, out=second.out, products=(
                replace(first.products[0], out=second.out),)), bias=lane_op.y[0].value)
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
                then = [MultiplyRows(tuple(_items(self._divisors[value], product.a)
                                           for product in op.products))]
                step = factor / b
            # Scores, so that a softmax may follow in the same list.
            then.append(Scale(step))
            products = [Product(self._coded(product.a), self._coded(product.b), product.out)
                        for product in op.products]
        self._write(replace(op, products=tuple(products), then=tuple(then)))

    def _weights(self, op: Gemm, step: float) -> tuple[Value, Value | float]:
        """Codes of weights, and what is left of their and the input's scales."""
        b = op.products[0].b
        value, make = b.value, b.value.make
        if not b.is_whole or make is None:
            raise ValueError(f"{value.name} must be read whole with static scales")
        told = [self._scales.of_weights(name, outputs) for name, outputs in op.of]
        known: list[np.ndarray] = []

        def factors() -> np.ndarray:
            if not known:
                own = np.abs(np.float64(make())).max(axis=1) / LARGEST
                row = 0
                for given, (_, outputs) in zip(told, op.of, strict=True):
                    if given is not None:
                        own[row:row + outputs] = given
                    row += outputs
                known.append(round_to(BFLOAT16, step * own[:, None]))
            return known[0]

        def codes() -> np.ndarray:
            scale = factors() / step
            return np.float64(make()) / np.where(scale > 0, scale, 1.0)

        first, row = told[0], None
        if first is not None and len(told) == first.size == 1:
            factor = float(round_to(BFLOAT16, step * np.float64(first))[0])
            counts = Counts(factor / step)
        else:
            row = self._shared.made(value, ("scales", step), lambda: Value(
                f"{value.name} scales", 1, value.rows, Life.CONSTANT, (Form.WIDE,),
                make=lambda: factors().T))
            counts = Counts(1 / step, row)
        coded = self._shared.made(value, ("codes", step), lambda: Value(
            f"{value.name} codes", *value.shape, Life.CONSTANT, (Form.STORED,), make=codes,
            counts=counts))
        return self._declare(coded), factor if row is None else self._declare(row)

    def _softmax(self, op: Vector) -> bool:
        """A softmax that is divided later."""
        p = op.out.value
        if [type(lane_op) for lane_op in op.then] != [Softmax] or p in self._plain or (
                not op.out.is_whole or not row_fits(self._config, p.columns)
                or p not in self._inverses):
            return False
        divisors = self._declare(Value(f"{p.name} divisors", p.rows, 1, forms=(Form.WIDE,)))
        self._divisors[p] = divisors
        blocks = [product.a for own in self._given.ops if isinstance(own, Gemm)
                  for product in own.products if product.a.value is p]
        self._ops.append(Vector(self._coded(op.out), self._view(op.x), then=(DeferredSoftmax(
            tuple(_items(divisors, view) for view in blocks)),)))
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
        divisors = self._declare(Value(f"{p.name} divisors", p.rows, 1, forms=(Form.WIDE,)))
        self._divisors[p] = divisors
        items = tuple(_items(divisors, replace(product.out, value=p))
                      for product in scores.products)
        deferred = DeferredPolynomial(
            then.y, then.degree, tuple(bias / step for bias in then.bias),
            tuple(delta / step ** then.degree for delta in then.delta), items)
        plain = self._view(scores.out)
        products = tuple(Product(self._coded(product.a), self._coded(product.b),
                                 self._view(product.out)) for product in scores.products)
        self._ops.append(replace(scores, out=plain, products=products))
        self._ops.append(Vector(self._coded(op.out), plain, then=(deferred.with_views(
            lambda view, use: view if view.value is divisors else self._view(view, use)),)))
        return 2


def _items(value: Value, rows: View) -> View:
    """Of ``value``, which has an item for each row of another, those of ``rows``."""
    return View(value, rows.offset // rows.value.columns, rows.rows, 1, 1)


def _to(op: Op, change: Callable[[View], View]) -> Op:
    """``op`` writing what ``change`` makes of where it writes."""
    if isinstance(op, Gemm):
        return replace(op, out=change(op.out), products=tuple(
            replace(product, out=change(product.out)) for product in op.products))
    return replace(op, out=change(op.out))
