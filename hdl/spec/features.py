"""Features: what a program may need of a build, and what a build has."""

from enum import IntFlag
from functools import cache, reduce
from operator import or_

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS

__all__ = ["ACCUMULATORS", "HYBRID", "LANES", "NARROW", "RESERVED", "SOFTMAX_MODES", "SQUARES",
           "Feature", "Needs", "available", "features_of"]


class Feature(IntFlag):
    """What a program may need of a build; unknown or missing bits are refused.

    An encoding, an accumulator and a softmax mode have theirs by their names. LANE_BF16: the lanes'
    type, of builds whose format leaves a choice; in the others it follows from the format. SCALES:
    operands of one item a row, reductions of magnitudes. LINEAR: products of a word with itself and
    means of rows without the functions of FUNCTIONS.
    """

    POSIT8 = 1 << 0
    POSIT8ES0 = 1 << 1
    POSIT8ES2 = 1 << 2
    E4M3 = 1 << 3
    E5M2 = 1 << 4
    BF16 = 1 << 5
    INT8 = 1 << 6
    ACC_BF16 = 1 << 8
    ACC_FP32 = 1 << 9
    ACC_EXACT = 1 << 10
    ACC_INT32 = 1 << 11
    ACC_FUSED = 1 << 12
    LANE_BF16 = 1 << 13
    LANE_FIXED = 1 << 14
    SOFTMAX_PWL = 1 << 16
    SOFTMAX_APPROX = 1 << 17
    SOFTMAX_APPROX_SHIFTED = 1 << 18
    SOFTMAX_LINEAR = 1 << 19
    FUNCTIONS = 1 << 20
    SCALES = 1 << 21
    LINEAR = 1 << 22
    BACKWARD = 1 << 24


Needs = tuple[Feature, ...]
"""What something takes: of each entry at least one feature. A program that uses it names those of
them that its build has, for its results depend on which they are."""

def _named(start: str) -> Feature:
    """All features whose names begin so."""
    return reduce(or_, (feature for name, feature in Feature.__members__.items()
                        if name.startswith(start)))


ACCUMULATORS = _named("ACC_")
SOFTMAX_MODES = _named("SOFTMAX_")
LANES = _named("LANE_")
SQUARES: Needs = (Feature.FUNCTIONS | Feature.LINEAR,)
"""A build with products of a word with itself, and means of rows."""

HYBRID: Needs = (Feature.E4M3, Feature.E5M2)
"""A build of both FP8 encodings, where each tensor picks one."""

NARROW: Needs = (reduce(or_, (Feature[encoding.name.upper()] for fmt in FORMATS.values()
                              for encoding in fmt.encodings if encoding.bits == 8)),)
"""A build of a format of 8 bits, where a tensor may be BF16 instead."""

RESERVED: Needs = (Feature(0),)
"""One feature out of none: no build has it."""


@cache
def features_of(config: AcceleratorConfig) -> Feature:
    """Every feature that a build of ``config`` has."""
    found = Feature[f"ACC_{config.acc.upper()}"]
    if config.functions != "linear":
        found |= Feature[f"SOFTMAX_{config.softmax.upper()}"]
    for encoding in config.format.encodings:
        found |= Feature[encoding.name.upper()]
    if config.format.integer:
        found |= Feature.LANE_FIXED if config.fixed else Feature.LANE_BF16
    if config.infers:
        found |= Feature.FUNCTIONS
    elif config.squares:
        found |= Feature.LINEAR
    if config.scales:
        found |= Feature.SCALES
    if config.trains:
        found |= Feature.BACKWARD
    return found


def available(needs: Needs, config: AcceleratorConfig) -> bool:
    """Whether a build of ``config`` has one feature of each entry of ``needs``."""
    built = features_of(config)
    return all(built & choice for choice in needs)
