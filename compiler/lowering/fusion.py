"""Fusion levels: which tensors of a transformer are rounded to the format's 8 bits.

GEMM operands always are. A level says of four further classes whether their inputs are rounded
too, as a chip would that stores them between operations; everything else is the lane's type on
chip, or BF16 in memory. A level changes nothing else.
"""

from enum import IntEnum

__all__ = ["FUSION_LEVELS", "Fusion", "fusion_named"]


class Fusion(IntEnum):
    """Each level fuses one class more than the level before it.

    ========== ================================= =======================================
    level      it fuses                          8-bit without it
    ========== ================================= =======================================
    NONE       nothing
    SCALING    × 1/√d after QKᵀ                  the unscaled QKᵀ
    ACTIVATION softmax, GELU, SiLU, ReLU         scaled (and masked) scores, f's argument
    NORM       LayerNorm, RMSNorm                their input
    RESIDUAL   the residual addition             both its inputs
    ========== ================================= =======================================
    """

    NONE = 0
    SCALING = 1
    ACTIVATION = 2
    NORM = 3
    RESIDUAL = 4

    def fuses(self, kind: "Fusion") -> bool:
        """Whether the inputs of ``kind``'s operations stay unrounded."""
        return self >= kind


FUSION_LEVELS = {level.name.lower(): level for level in Fusion}


def fusion_named(name: str) -> Fusion:
    """The level called ``name``; ``ValueError`` names the value and what is allowed."""
    if name not in FUSION_LEVELS:
        raise ValueError(f"fusion must be one of {', '.join(FUSION_LEVELS)}, not {name!r}")
    return FUSION_LEVELS[name]
