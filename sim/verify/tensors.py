"""What tensors of a program hold, by name, at a fusion level."""

from compiler.checkpoints.inputs import Step
from compiler.lowering.fusion import Fusion
from hdl.spec.formats import BF16_ENCODING
from sim.model import codec
from sim.verify.arithmetic import Arithmetic, Array

__all__ = ["Tensors"]


class Tensors:
    """``found`` collects codes by name, each behind the ``label`` of the step that is ``now``.
    ``math`` computes them."""

    def __init__(self, math: Arithmetic, level: Fusion) -> None:
        self.math = math
        self.found: dict[str, Array] = {}
        self.eight = {kind: not level.fuses(kind) for kind in Fusion}
        self.label = ""
        self.now: Step

    def keep(self, name: str, values: Array, rounded: bool) -> Array:
        """``values`` as tensor ``name`` holds them: of the format, or BF16."""
        encoding = self.math.storage if rounded else BF16_ENCODING
        codes = codec.encode(encoding, values)
        self.found[self.label + name] = codes
        return self.math.kept(encoding, rounded, values)

    def keep_both(self, name: str, values: Array) -> Array:
        """BF16, and the format's rounding of that, under names that say so; gives BF16."""
        wide = self.keep(f"{name} bf16", values, False)
        if self.math.storage != BF16_ENCODING:
            self.keep(f"{name} {self.math.storage.name}", wide, True)
        return wide

    def rounded_if(self, kind: Fusion, values: Array, name: str) -> Array:
        """The input of an operation of ``kind``, tensor ``name`` where it is rounded."""
        return self.keep(name, values, True) if self.eight[kind] else values

    def as_read(self, kind: Fusion, wide: Array) -> Array:
        """A stream as an operation of ``kind`` reads it."""
        return self.math.stored(wide) if self.eight[kind] else wide
