"""Operands of products as codes of scales that are known beforehand, in a list in the making."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from compiler.checkpoints.scales import LARGEST, Scales, ScalesError
from compiler.lowering.coded_list import CodedList
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.epilogues import fits_one_list
from compiler.lowering.lane_ops import Factor, LaneOp, Multiply
from compiler.lowering.ops import Gemm, Op, OpList, Output, Vector
from compiler.lowering.values import Counts, Form, Life, Use, Value, View
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import round_to

__all__ = ["StaticCodes"]

_RAISED = 14
"""log2 of what is nearest to 127²."""


def _inverse(scale: float) -> float:
    """By what an operand is multiplied."""
    return float(round_to(BFLOAT16, np.float64([1 / scale]))[0])


class StaticCodes(CodedList):
    """What each value counts, its codes, and ops whose results are written as these."""

    def __init__(self, listed: OpList, shared: CodedValues, config: AcceleratorConfig,
                 scales: Scales) -> None:
        super().__init__(listed, shared)
        self._config, self._scales = config, scales
        products = [op for op in listed.ops if isinstance(op, Gemm)]
        # Of each value that products read by what its columns are multiplied to be codes.
        self._inverses: dict[Value, np.ndarray] = {}
        for op in products:
            self._note(op)
        self._plain = {read.view.value for op in listed.ops for read in op.reads
                       if isinstance(op, Output) or read.use != Use.OPERAND}
        self._codes: dict[Value, Value] = {}
        self._divisors: dict[Value, Value] = {}

    def _table(self, table: Value) -> tuple[Value, Value, float]:
        """Lanes of integers pass magnitudes on that are not too small for a word of theirs."""
        codes, top, unit = super()._table(table)
        if not self._config.fixed:
            return codes, top, unit
        make, unit = top.make, 2.0 ** -_RAISED
        assert make is not None, "constants have contents"
        raised = self._shared.made(table, "raised magnitudes", lambda: Value(
            f"{top.name} raised", top.rows, 1, Life.CONSTANT, top.forms,
            make=lambda: np.ldexp(make(), _RAISED)))
        return self._shared.made(table, "codes of raised magnitudes", lambda: replace(
            codes, counts=Counts(LARGEST * unit, raised))), raised, unit

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


def _to(op: Op, change: Callable[[View], View]) -> Op:
    """``op`` writing what ``change`` makes of where it writes."""
    if isinstance(op, Gemm):
        return replace(op, out=change(op.out), products=tuple(
            replace(product, out=change(product.out)) for product in op.products))
    return replace(op, out=change(op.out))
