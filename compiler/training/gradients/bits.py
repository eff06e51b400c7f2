"""``EightBit`` to the bit: products by the build's accumulators, row sums in the lanes' order.

Slow, for what a program gives has to be known without one. Products of ``exact`` accumulators are
those of float64, which holds the sums of posit8 and fp8 whose items span fewer than 53 bits.
"""

import numpy as np

from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.numerics import Array
from hdl.spec.config import AcceleratorConfig
from sim.model import accumulate, lanes

__all__ = ["Bits"]


class Bits(EightBit):
    """Arguments as for ``EightBit``; float64."""

    def __init__(self, config: AcceleratorConfig, *, backward: str = "ordinary",
                 scaling: bool = True, target: int | None = None) -> None:
        super().__init__(config, backward=backward, scaling=scaling, dtype=np.float64,
                         target=target)

    def product(self, a: Array, b: Array) -> Array:
        if self.config.acc == "exact":
            return super().product(a, b)
        if b.ndim == 2:
            rows = accumulate.product(self.config, a.reshape(-1, a.shape[-1]), b)
            return rows.reshape(*a.shape[:-1], b.shape[1])
        pairs = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
        found = [accumulate.product(self.config, one, other) for one, other in pairs]
        return np.stack(found).reshape(*a.shape[:-1], b.shape[-1])

    def row_sums(self, x: Array) -> Array:
        sums = lanes.row_total(self.config.lane, self.config.lanes, self.config.sum_ways,
                               x.reshape(-1, x.shape[-1]))
        return sums.reshape(*x.shape[:-1], 1)
