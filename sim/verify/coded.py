"""Arithmetic of builds whose format holds codes alone: what is stored is BF16."""

import numpy as np

from hdl.spec.formats import BF16_ENCODING, BINARY32, Encoding
from sim.model import codec, lanes
from sim.model.rounding import round_to
from sim.verify.arithmetic import Arithmetic, Array

__all__ = ["Coded"]

_LARGEST = 127.0


class Coded(Arithmetic):
    """Operands of products become codes when a product takes them."""

    @property
    def storage(self) -> Encoding:
        return BF16_ENCODING

    def gain(self, values: Array) -> Array:
        return self.wide(values)

    def rounded(self, values: Array) -> Array:
        """The nearest codes of the format."""
        return codec.decode(self.encoding, codec.encode(self.encoding, values))

    def raised(self, x: Array, degree: int, bias: float, delta: float, seen: Array | None = None
               ) -> tuple[Array, Array]:
        """``powers`` of what is ``seen``, each row × 127 over its largest, and 1 over their sum."""
        e = self.powers(x, degree, bias, delta)
        if seen is not None and not seen.all():
            e = self.multiply(e, np.where(seen, 1.0, 0.0))
        top = lanes.row_max(self.lane, e)
        share = round_to(self.lane, lanes.multiply(BINARY32, top, np.full_like(
            top, np.float32(1 / _LARGEST))))
        e = self.multiply(e, lanes.reciprocal_by_table(self.lane, share)[:, None])
        total = lanes.row_sum(self.lane, self.config.lanes, e)
        return e, lanes.reciprocal_by_table(self.lane, total)
