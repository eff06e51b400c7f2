"""``EightBit`` that leaves some of its roundings out, to see what each of them costs."""

from collections.abc import Collection

from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.numerics import Array
from hdl.spec.config import AcceleratorConfig

__all__ = ["ROUNDED", "Partly"]

ROUNDED = ("activations", "gradients")


class Partly(EightBit):
    """Those of ``exact``, some of ROUNDED, are stored as they are: lane values of the forward pass
    (merged matrices and adapters among them), gradient tensors. ``ValueError`` for others."""

    def __init__(self, config: AcceleratorConfig, exact: Collection[str], *,
                 backward: str = "ordinary", target: int | None = None) -> None:
        for name in exact:
            if name not in ROUNDED:
                raise ValueError(f"exact must be some of {', '.join(ROUNDED)}, not {name!r}")
        super().__init__(config, backward=backward, target=target)
        self._exact = frozenset(exact)

    def stored(self, x: Array) -> Array:
        return x if "activations" in self._exact else super().stored(x)

    def gradient(self, site: str, g: Array) -> Array:
        return g if "gradients" in self._exact else super().gradient(site, g)
