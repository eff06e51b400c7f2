"""Arithmetic of builds whose format holds codes alone: what is stored is BF16."""

from hdl.spec.formats import BF16_ENCODING, Encoding
from sim.model import codec
from sim.verify.arithmetic import Arithmetic, Array

__all__ = ["Coded"]


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
