"""Features: what a program may need of a build, and what a build has."""

from enum import IntFlag

from hdl.spec.config import AcceleratorConfig

__all__ = ["ACCUMULATORS", "HYBRID", "NARROW", "RESERVED", "SOFTMAX_MODES", "Feature", "Needs",
           "available", "features_of"]


class Feature(IntFlag):
    """What a program may need of a build; unknown or missing bits are refused."""

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
    SOFTMAX_PWL = 1 << 16
    SOFTMAX_APPROX = 1 << 17
    SOFTMAX_APPROX_SHIFTED = 1 << 18
    FUNCTIONS = 1 << 20
    BACKWARD = 1 << 24


Needs = tuple[Feature, ...]
"""What something takes: of each entry at least one feature. A program that uses it names those of
them that its build has, for its results depend on which they are."""

ACCUMULATORS = Feature.ACC_BF16 | Feature.ACC_FP32 | Feature.ACC_EXACT | Feature.ACC_INT32
SOFTMAX_MODES = (Feature.SOFTMAX_PWL | Feature.SOFTMAX_APPROX
                 | Feature.SOFTMAX_APPROX_SHIFTED)
HYBRID: Needs = (Feature.E4M3, Feature.E5M2)
"""A build of both FP8 encodings, where each tensor picks one."""

NARROW: Needs = (Feature.POSIT8 | Feature.POSIT8ES0 | Feature.POSIT8ES2 | Feature.E4M3
                 | Feature.E5M2 | Feature.INT8,)
"""A build of a format of 8 bits, where a tensor may be BF16 instead."""

RESERVED: Needs = (Feature(0),)
"""One feature out of none: no build has it."""

_ENCODING_FEATURES = {
    "posit8": Feature.POSIT8, "posit8es0": Feature.POSIT8ES0, "posit8es2": Feature.POSIT8ES2,
    "e4m3": Feature.E4M3, "e5m2": Feature.E5M2, "bf16": Feature.BF16,
}
_ACCUMULATOR_FEATURES = {"bf16": Feature.ACC_BF16, "fp32": Feature.ACC_FP32,
                         "exact": Feature.ACC_EXACT}
_SOFTMAX_FEATURES = {
    "pwl": Feature.SOFTMAX_PWL, "approx": Feature.SOFTMAX_APPROX,
    "approx_shifted": Feature.SOFTMAX_APPROX_SHIFTED,
}


def features_of(config: AcceleratorConfig) -> Feature:
    """Every feature that a build of ``config`` has."""
    found = _ACCUMULATOR_FEATURES[config.acc] | _SOFTMAX_FEATURES[config.softmax]
    for encoding in config.format.encodings:
        found |= _ENCODING_FEATURES[encoding.name]
    if config.functions == "all":
        found |= Feature.FUNCTIONS
    return found


def available(needs: Needs, config: AcceleratorConfig) -> bool:
    """Whether a build of ``config`` has one feature of each entry of ``needs``."""
    built = features_of(config)
    return all(built & choice for choice in needs)
