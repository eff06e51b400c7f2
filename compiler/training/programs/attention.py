"""Attention's backward pass as ops, between the heads' results and the projections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.description import Attention
from compiler.lowering import backward_lists as lists
from compiler.lowering.backward import rotary_tables_back
from compiler.lowering.ops import Product
from compiler.lowering.saved import Saved
from compiler.lowering.values import Form, Read, Value
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.training.programs.context import Context, Make, operand, wide
from hdl.spec.commands import Destination, Operand

__all__ = ["AttentionBackward"]

_STORE: Fields = {"destination": Destination.MEMORY}
_KEEP: Fields = {"destination": Destination.BUFFER}


@dataclass
class AttentionBackward:
    """Of the layer ``name``, whose forward pass left ``saved``."""

    ctx: Context
    name: str
    attention: Attention
    saved: Saved

    def back(self, do: Value) -> Value:
        """The gradients of queries, keys and values side by side, of that of the heads' results."""
        return self._projections(do, self._scores(do))

    def _units(self) -> list[tuple[int, int, int]]:
        """First row, head and head of keys of each head of each sequence."""
        attention, step = self.attention, self.ctx.step
        shared = attention.heads // attention.kv_heads
        return [(sequence * step.length, head, head // shared)
                for sequence in range(step.sequences) for head in range(attention.heads)]

    def _scores(self, do: Value) -> Value:
        """Gradients of all scores, of those of the heads' results."""
        ctx, saved, length = self.ctx, self.saved, self.ctx.step.length
        size = self.attention.head_size
        ds = ctx.site(f"{self.name} ds", *saved.probabilities.shape)
        factor = self.ctx.factors.factor(size ** -0.5, ds.name, do.name)
        centred = ctx.training.backward == "centred"
        products, blocks = [], []
        for index, (row, head, kv) in enumerate(self._units()):
            rows = index * length
            products.append(Product(do.whole.block(row, head * size, length, size),
                                    saved.values.block(row, kv * size, length, size),
                                    ds.whole.row_block(rows, length)))
            blocks.append([operand(saved.probabilities.whole.row_block(rows, length))])
        ctx.trace.gemm(products, ds, ctx.storing(
            ds.name, lambda y: lists.softmax_backward(y[0], factor, centred), *blocks))
        ctx.stored(ds)
        return ds

    def _projections(self, do: Value, ds: Value) -> Value:
        """Gradients of queries, keys and values side by side."""
        ctx, attention = self.ctx, self.attention
        size, heads, kv_heads = attention.head_size, attention.heads, attention.kv_heads
        dqkv = ctx.site(f"{self.name} dqkv", do.rows, (heads + 2 * kv_heads) * size)
        plain = dqkv
        if attention.rotary is not None or heads != kv_heads:
            plain = ctx.trace.value(f"{self.name} dqkv unrotated", *dqkv.shape, forms=(Form.WIDE,))
        for kind in ("query", "key", "value"):
            self._heads(kind, do, ds, dqkv, plain)
        if attention.rotary is not None:
            # Rows of what has room beside it do not split into heads.
            turned = dqkv if not dqkv.room else ctx.trace.value(
                f"{self.name} dqkv turned", *dqkv.shape, forms=(Form.GRADIENT,))
            self._turn_back(plain, turned)
            if turned is not dqkv:
                ctx.trace.vector(turned.whole, None, dqkv)
        elif plain is not dqkv:
            ctx.trace.vector(plain.whole, ctx.storing(dqkv.name, lambda _: Epilogue()), dqkv)
        ctx.stored(dqkv)
        return dqkv

    def _heads(self, kind: str, do: Value, ds: Value, dqkv: Value, plain: Value) -> None:
        """One of the three, of all heads; heads that share keys add up one after the other."""
        ctx, saved, attention = self.ctx, self.saved, self.attention
        length, size = ctx.step.length, attention.head_size
        shared = attention.heads // attention.kv_heads
        first = {"query": 0, "key": attention.heads,
                 "value": attention.heads + attention.kv_heads}[kind]
        factor = self.ctx.factors.factor(1.0, dqkv.name, (do if kind == "value" else ds).name)
        for turn in range(1 if kind == "query" else shared):
            products: list[Product] = []
            for index, (row, head, kv) in enumerate(self._units()):
                if kind != "query" and head % shared != turn:
                    continue
                place = row, (first + (head if kind == "query" else kv)) * size, length, size
                own = index * length
                scores = ds.whole.row_block(own, length)
                a, b = {
                    "query": (scores, saved.keys.block(row, kv * size, length, size)),
                    "key": (scores, saved.queries.block(row, head * size, length, size)),
                    "value": (saved.probabilities.whole.row_block(own, length),
                              do.whole.block(row, head * size, length, size))}[kind]
                products.append(Product(a, b, plain.whole.block(*place)))
            blocks: list[Sequence[Read]] = [[wide(product.out)] if turn else []
                                            for product in products]
            transposed = {"a_transposed": kind != "query", "b_transposed": False}
            make: Make = lambda y: Epilogue(factor, *y)  # noqa: E731
            ctx.trace.gemm(products, plain, ctx.storing(dqkv.name, make, *blocks) if (
                plain is dqkv) else ctx.listed_blocks(dqkv.name, make, blocks), **transposed)

    def _turn_back(self, plain: Value, out: Value) -> None:
        """All of q, k and v at once: the angles of v are 0."""
        ctx, attention, step = self.ctx, self.attention, self.ctx.step
        size, base = attention.head_size, attention.rotary.base
        heads, kv_heads = attention.heads, attention.kv_heads
        count = heads + 2 * kv_heads

        def tables() -> list[np.ndarray]:
            rows = np.tile(np.arange(step.length), step.sequences)
            rotated = rotary_tables_back(rows, size, heads + kv_heads, base)
            still = rotary_tables_back(0 * rows, size, kv_heads, base)
            return [np.concatenate([part.reshape(len(rows), -1, part.shape[1]) for part in pair],
                                   axis=1).reshape(-1, pair[0].shape[1])
                    for pair in zip(rotated, still, strict=True)]

        shape, half = (step.rows * count, size), size // 2
        cosines = ctx.trace.shared(("back", "cos", size, base), "cosines back", (shape[0], half),
                                   Form.WIDE, lambda: tables()[0]).whole
        sines = ctx.trace.shared(("back", "sin", size, base), "sines back", shape, Form.WIDE,
                                 lambda: tables()[1]).whole
        crossed = ctx.trace.value(f"{self.name} dqkv crossed", *plain.shape, forms=(Form.WIDE,))
        x, to, between = (value.whole.split(size) for value in (plain, out, crossed))
        ctx.trace.multiply(x, sines, between)
        for own, other in ((0, half), (half, 0)):
            own_half, other_half = ((0, first, x.rows, half) for first in (own, other))
            ctx.trace.vector(x.block(*own_half), ctx.storing(out.name, lambda y: Epilogue(
                bias=y[0], y1=y[1], instructions=(
                    Instruction(multiply=Operand.Y, **_KEEP),
                    Instruction(add=Operand.Y, y=1, **_STORE))),
                [wide(cosines), wide(between.block(*other_half))]), to.block(*own_half))
