"""Adapters that stay beside their matrices, forward and back.

Of linear layers that read the same x, with T = x Aᵀ, all their A below one another:

    y = [x ‖ T] [W ‖ s B]ᵀ        U = dy · s B        dx = [dy ‖ U] [W ; A]
    dB = s dyᵀ T                  dA = Uᵀ x

each one sum in the accumulators. U is stored with the scale of dy. W is never rounded again: no
update of A or B is lost for being less than half a unit of an item of W.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.training.gradients.numerics import Array
from compiler.training.gradients.weights import INNER_LOG2, Adapter, Run, lora_names

__all__ = ["Beside", "rows_of"]


def rows_of(x: Array) -> Array:
    """… × items as rows × items."""
    return x.reshape(-1, x.shape[-1])


@dataclass(frozen=True)
class Beside:
    """Of layers ``names``, of which ``own`` have adapters; ``inner``: T over 2^INNER_LOG2, stored.
    ``site``: that of the gradients of their outputs."""

    run: Run
    names: Sequence[str]
    own: dict[str, Adapter]
    x: Array
    inner: Array
    site: str

    @classmethod
    def of(cls, run: Run, names: Sequence[str], x: Array, called: str) -> "Beside | None":
        """Of those that are ``called`` so together and read the stored ``x``; None where they have
        no adapters, or those are merged."""
        if not run.weights.beside:
            return None
        n = run.numerics
        own = {name: adapter for name in names
               if (adapter := run.weights.adapter(name)) is not None}
        if not own:
            return None
        every_a = np.concatenate([adapter.a for adapter in own.values()])
        inner = n.stored(n.lane(n.product(x, every_a.T) * n.dtype(2.0 ** -INNER_LOG2)))
        return cls(run, names, own, x, inner, run.outputs.get(called, ""))

    def forward(self, name: str, x: Array, matrix: Array) -> Array:
        """Lane values of one layer's x Wᵀ + s T Bᵀ."""
        wide = np.zeros((len(matrix), self.inner.shape[-1]), matrix.dtype)
        if name in self.own:
            wide[:, self._columns(name)] = self.own[name].b
        return self.run.numerics.product(np.concatenate([x, self.inner], axis=-1),
                                         np.concatenate([matrix, wide], axis=1).T)

    def _columns(self, name: str) -> slice:
        """Those of the layer's adapter in T and U."""
        rank = len(self.own[name].a)
        first = rank * list(self.own).index(name)
        return slice(first, first + rank)

    def gradients(self, ds: Sequence[Array]) -> Array:
        """Leaves those of A and B, of the stored gradients ``ds`` of the outputs; gives U."""
        run, n = self.run, self.run.numerics
        given = dict(zip(self.names, ds, strict=True))
        small = n.dtype(2.0 ** -INNER_LOG2)
        inward = n.beside(self.site, np.concatenate(
            [n.lane(n.product(given[name], own.b) * small) for name, own in self.own.items()],
            axis=-1))
        for name, own in self.own.items():
            a, b = lora_names(name)
            columns = self._columns(name)
            scale = n.wide_constant(np.asarray(own.scale * 2.0 ** INNER_LOG2))
            if a in run.wanted:
                run.add(a, n.product(rows_of(inward)[:, columns].T, rows_of(self.x)))
            if b in run.wanted:
                run.add(b, n.lane(n.product(
                    rows_of(given[name]).T, rows_of(self.inner)[:, columns]) * scale))
        return inward

    def back(self, ds: Sequence[Array], inward: Array, matrices: Sequence[Array]) -> Array:
        """Lane values of the gradient of x."""
        every_a = [own.a for own in self.own.values()]
        return self.run.numerics.product(np.concatenate([*ds, inward], axis=-1),
                                         np.concatenate([*matrices, *every_a]))
