"""Codes of one layer's attention."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Norm, Polynomial
from compiler.checkpoints.inputs import Step
from compiler.lowering.fusion import Fusion
from hdl.spec.formats import BFLOAT16
from sim.model import codec
from sim.model.rounding import largest
from sim.verify.arithmetic import Array
from sim.verify.by_row import ByRow
from sim.verify.tensors import Tensors

__all__ = ["AttentionCodes"]

_AT_ONCE = 1 << 20  # scores


class AttentionCodes:
    """Attention of one layer after the other; keys and values of earlier steps are remembered."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors, self.math = tensors, tensors.math
        self.past: dict[tuple[int, str], list[Array]] = {}
        self.source: Step
        self._added: tuple[Step | None, tuple, Array] = None, (), np.empty(0)

    def heads(self, attention: Attention, x: Array, index: int, values_of: Array | None) -> Array:
        """The heads' results side by side, of the format. ``values_of``: what values read where
        that is not ``x``."""
        tensors, math, name = self.tensors, self.math, f"layer {index} "
        v = math.linear(x if values_of is None else values_of, attention.value)
        q, k = (self.projected(attention, linear, norm, x, f"{name}{kind}")
                for linear, norm, kind in ((attention.query, attention.query_norm, "query"),
                                           (attention.key, attention.key_norm, "key")))
        q = tensors.keep(f"{name}query", q, True)
        k, v = math.stored(k), math.stored(v)
        parts = [q, k] if values_of is not None else [q, k, v]
        tensors.keep(f"{name}queries and keys" if values_of is not None else f"{name}projections",
                     np.concatenate(parts, axis=1), True)
        tensors.keep(f"{name}value", v, True)
        k, v = (self.remember(index, kind, part) for kind, part in (("keys", k), ("values", v)))
        heads, tables = self.mixed(attention, q, k, v, lambda sequence, head: self.added(
            attention, sequence, head))
        for kind, found in tables.items():
            wide = kind == "scores" and not tensors.eight[Fusion.ACTIVATION]
            tensors.keep(name + kind, found, not wide)
        return tensors.keep(f"{name}heads", heads, True)

    def across(self, attention: Attention, x: Array, encoded: Array, layer: str) -> Array:
        """The heads' results side by side, of the format, with keys and values of ``encoded``."""
        tensors, math, step, source = self.tensors, self.math, self.tensors.now, self.source
        q = tensors.keep(f"{layer} across query", math.linear(x, attention.query), True)
        k, v = (math.stored(math.linear(encoded, linear))
                for linear in (attention.key, attention.value))
        for name, part in (("keys", k), ("values", v)):
            tensors.found[f"{layer} across {name}"] = codec.encode(math.storage, part)
        added = np.zeros((step.sequences, step.length, source.length))
        if source.valid is not None:
            added[np.broadcast_to(~source.valid[:, None], added.shape)] = -largest(BFLOAT16)
        k, v = (part.reshape(step.sequences, source.length, -1) for part in (k, v))
        heads, tables = self.mixed(attention, q, k, v, lambda sequence, head: added[sequence])
        for kind, found in tables.items():
            tensors.keep(f"{layer} across {kind}", found, True)
        return tensors.keep(f"{layer} across heads", heads, True)

    def mixed(self, attention: Attention, q: Array, k: Array, v: Array,
              added: Callable[[int, int], Array]) -> tuple[Array, dict[str, Array]]:
        """The heads' results side by side, of the format, and the tables between, of all sequences
        and heads below one another. ``k``, ``v``: sequences × positions × items; ``added``: to the
        scores of each sequence and head, of which many are computed at once."""
        math, step = self.math, self.tensors.now
        size, shared = attention.head_size, attention.heads // attention.kv_heads
        heads = np.zeros((step.rows, attention.heads * size))
        tables: dict[str, list[Array]] = {}
        pairs = list(product(range(step.sequences), range(attention.heads)))
        most = max(1, _AT_ONCE // (step.length * k.shape[1]))

        def place(sequence: int, head: int) -> tuple[slice, slice]:
            return (slice(sequence * step.length, (sequence + 1) * step.length),
                    slice(head * size, (head + 1) * size))

        if math.defers(attention, k.shape[1], lambda: any(added(*pair).any() for pair in pairs)):
            assert isinstance(math, ByRow), "no other arithmetic does"
            scale = attention.head_size ** -0.5 if attention.scale is None else attention.scale
            for sequence, values in enumerate(v):
                codes, top = math.tensor_codes(values)
                for head in range(attention.heads):
                    read = slice(head // shared * size, (head // shared + 1) * size)
                    heads[place(sequence, head)] = math.attended(
                        q[place(sequence, head)], k[sequence][:, read], (codes[:, read], top),
                        scale, attention.kernel, head)
            return math.stored(heads), {}

        for first in range(0, len(pairs), most):
            some = pairs[first:first + most]
            reads = [slice(head // shared * size, (head // shared + 1) * size) for _, head in some]
            scores = [math.scores(attention, q[place(*pair)], k[pair[0]][:, read])
                      for pair, read in zip(some, reads, strict=True)]
            masks = [added(*pair) for pair in some]
            if attention.kernel is not None:
                p = self.polynomials(attention, attention.kernel, scores, masks,
                                     [head for _, head in some], tables)
            else:
                p = self.probabilities(attention, np.concatenate(scores), masks, tables)
            for pair, read, own in zip(some, reads, np.split(p, len(some)), strict=True):
                heads[place(*pair)] = math.sums(attention, own, v[pair[0]][:, read])
        return math.stored(heads), {kind: np.concatenate(own) for kind, own in tables.items()}

    def projected(self, attention: Attention, linear: Linear, norm: Norm | None, x: Array,
                  name: str) -> Array:
        """Queries or keys, normalised and rotated where the model does."""
        y = self.math.linear(x, linear)
        if norm is not None:
            kept = self.tensors.keep(f"{name} before its norm", y,
                                     self.tensors.eight[Fusion.NORM])
            y = self.math.norm(kept.reshape(-1, len(norm.gain)), norm).reshape(y.shape)
        return y if attention.rotary is None else self.rotate(attention, y, name)

    def remember(self, index: int, kind: str, new: Array) -> Array:
        """All positions' keys or values so far, sequences × positions × items."""
        step = self.tensors.now
        new = new.reshape(step.sequences, step.length, -1)
        parts = self.past.setdefault((index, kind), [])
        parts.append(new)
        every = np.concatenate(parts, axis=1)
        self.tensors.found[f"layer {index} {kind}"] = codec.encode(
            self.math.storage, every.reshape(-1, every.shape[2]))
        return every

    def added(self, attention: Attention, sequence: int, head: int) -> Array:
        """What is added to the scores of ``sequence`` in ``head``, zeros where nothing is. Heads
        without a bias share one array."""
        step, bias = self.tensors.now, attention.position_bias
        key = attention.causal, attention.window, sequence
        if bias is None and self._added[0] is step and self._added[1] == key:
            return self._added[2]
        added = np.zeros((step.length, step.total))
        ahead = np.arange(step.total)[None] - np.arange(step.past, step.total)[:, None]
        if bias is not None:
            own = self.math.wide(bias.values[head])
            limit = len(own) // 2
            for distance in range(ahead.min(), ahead.max() + 1):
                added[ahead == distance] = own[limit + max(-limit, min(limit, distance))]
        if attention.causal:
            added[ahead > 0] = -largest(BFLOAT16)
        if attention.window is not None:
            added[abs(ahead) >= attention.window] = -largest(BFLOAT16)
        if step.valid is not None:
            added[:, ~step.valid[sequence][:step.total]] = -largest(BFLOAT16)
        if bias is None:
            self._added = step, key, added
        return added

    def probabilities(self, attention: Attention, scores: Array, added: Sequence[Array],
                      tables: dict[str, list[Array]]) -> Array:
        """Of the products of queries and keys of several heads below one another."""
        math = self.math

        def rounded_if(kind: Fusion, values: Array, name: str) -> Array:
            if not self.tensors.eight[kind]:
                return values
            tables.setdefault(name, []).append(math.stored(values))
            return tables[name][-1]

        scale = attention.head_size ** -0.5 if attention.scale is None else attention.scale
        if attention.cap is None:
            scores = rounded_if(Fusion.SCALING, scores, "unscaled scores")
            scores = math.multiply(scores, math.score_factor(attention, scale))
        else:
            bent = math.multiply(scores, math.score_factor(attention, scale / attention.cap))
            bent = math.activation("tanh", rounded_if(Fusion.ACTIVATION, bent, "scores over cap"))
            scores = math.multiply(bent, math.wide(attention.cap))
        changed = np.array([own.any() for own in added])
        if changed.any():  # a zero that is added would change −0
            scores = np.where(np.repeat(changed, len(scores) // len(added))[:, None],
                              math.add(scores, np.concatenate(added)), scores)
        if attention.cap is not None and not self.tensors.eight[Fusion.ACTIVATION]:
            # A softmax behind a cap is a command of its own.
            tables.setdefault("scores", []).append(math.wide(scores))
            scores = tables["scores"][-1]
        scores = rounded_if(Fusion.ACTIVATION, scores, "scores")
        tables.setdefault("probabilities", []).append(math.shares(scores))
        return tables["probabilities"][-1]

    def polynomials(self, attention: Attention, kernel: Polynomial, scores: Sequence[Array],
                    added: Sequence[Array], heads: Sequence[int], tables: dict[str, list[Array]]
                    ) -> Array:
        """Of the products of queries and keys of ``heads``: the scale s of scores is left out,
        [max(x s + b, 0)]^n + δ being sⁿ times [max(x + b / s, 0)]^n + δ / sⁿ."""
        math, size = self.math, attention.head_size
        scale = size ** -0.5 if attention.scale is None else attention.scale
        unit, found = math.score_unit(attention), []
        for own, mask, head in zip(scores, added, heads, strict=True):
            if self.tensors.eight[Fusion.ACTIVATION]:
                own = math.stored(own)
                tables.setdefault("scores", []).append(own)
            found.append(math.polynomial_shares(
                own, kernel.degree, kernel.bias[head] / scale / unit,
                abs(kernel.delta[head]) / scale ** kernel.degree / unit ** kernel.degree,
                mask == 0))
        tables.setdefault("probabilities", []).append(np.concatenate(found))
        return tables["probabilities"][-1]

    def rotate(self, attention: Attention, x: Array, name: str) -> Array:
        """Each pair (a, b) becomes (a c − b s, b c + a s); first items of the pairs come first."""
        math, size, rotary = self.math, attention.head_size, attention.rotary
        step = self.tensors.now
        assert rotary is not None
        heads = self.tensors.keep(f"{name} unrotated", self.sorted(attention, x), False)
        heads = heads.reshape(step.rows, -1, 2, size // 2)
        position = np.tile(np.arange(step.past, step.total, dtype=np.float64), step.sequences)
        pair = np.arange(size // 2)
        rate = (rotary.base ** (-2.0 * pair / size) if rotary.rates is None
                else np.array(rotary.rates))
        angle = position[:, None] * rate
        c, s = (math.wide(rotary.factor * of(angle))[:, None] for of in (np.cos, np.sin))
        a, b = heads[:, :, 0], heads[:, :, 1]
        from_a, from_b = math.wide(math.multiply(a, s)), math.wide(math.multiply(b, -s))
        self.tensors.keep(f"{name} crossed",
                          np.stack([from_a, from_b], axis=2).reshape(step.rows, -1), False)
        rotated = np.stack([math.add(math.multiply(a, c), from_b),
                           math.add(math.multiply(b, c), from_a)], axis=2)
        return rotated.reshape(step.rows, -1)

    @staticmethod
    def sorted(attention: Attention, x: Array) -> Array:
        """First items of each head's pairs, then the second ones."""
        if attention.rotary is None or not attention.rotary.interleaved:
            return x
        pairs = x.reshape(len(x), -1, attention.head_size // 2, 2)
        return pairs.swapaxes(2, 3).reshape(x.shape)
