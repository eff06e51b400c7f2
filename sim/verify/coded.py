"""Arithmetic of builds whose format holds codes alone: what is stored is BF16."""

from collections.abc import Callable

import numpy as np

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, BFLOAT16, BINARY32, Encoding
from sim.model import codec, lanes
from sim.model.rounding import round_to
from sim.verify.arithmetic import KEPT, Arithmetic, Array

__all__ = ["LARGEST", "Coded"]

LARGEST = 127.0
"""The largest code."""


class Coded(Arithmetic):
    """Operands of products become codes when a product takes them."""

    def __init__(self, config: AcceleratorConfig, kept: int = KEPT) -> None:
        super().__init__(config, kept)
        self._coded: dict[int, tuple[Array, Array, Array]] = {}

    def once(self, values: Array, make: Callable[[Array], tuple[Array, Array]]
             ) -> tuple[Array, Array]:
        """Codes of a weight and what its sums are multiplied by, as ``make`` has them, once as long
        as there is room for them."""
        if id(values) in self._coded:
            return self._coded[id(values)][1:]
        codes, factors = make(values)
        if codes.nbytes <= self._room:
            self._room -= codes.nbytes
            self._coded[id(values)] = values, codes, factors
        return codes, factors

    @property
    def storage(self) -> Encoding:
        return BF16_ENCODING

    def gain(self, values: Array) -> Array:
        return self.wide(values)

    def rounded(self, values: Array) -> Array:
        """The nearest codes of the format."""
        return codec.decode(self.encoding, codec.encode(self.encoding, values))

    def row_codes(self, values: Array) -> tuple[Array, Array]:
        """Codes of constants, and what those of each row count over 127, rows × 1."""
        top = np.max(np.abs(np.float64(values)), axis=1, keepdims=True)
        scale = round_to(BFLOAT16, top / LARGEST ** 2)
        return self.rounded(np.float64(values) / np.where(scale > 0, LARGEST * scale, 1.0)), scale

    def table_rows(self, table: Array, ids: Array, factor: float = 1.0) -> Array:
        codes, scale = self.row_codes(table[ids].reshape(-1, table.shape[1]))
        rows = self.multiply(self.multiply(codes, scale), self.wide(LARGEST * factor))
        return rows.reshape(*ids.shape, -1)

    def raised(self, x: Array, degree: int, bias: float, delta: float, seen: Array | None = None
               ) -> tuple[Array, Array]:
        """``powers`` of what is ``seen``, each row × 127 over its largest, and 1 over their sum."""
        e = self.powers(x, degree, bias, delta)
        if seen is not None and not seen.all():
            e = self.multiply(e, np.where(seen, 1.0, 0.0))
        top = lanes.row_max(self.lane, e)
        share = round_to(self.lane, lanes.multiply(BINARY32, top, np.full_like(
            top, np.float32(1 / LARGEST))))
        e = self.multiply(e, lanes.reciprocal_by_table(self.lane, share)[:, None])
        total = lanes.row_sum(self.config, e)
        return e, lanes.reciprocal_by_table(self.lane, total)
