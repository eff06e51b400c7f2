"""Piecewise-linear tables of exp, 1/x and 1/sqrt(x), and what they mean to the bit.

Every quantity here is an integer; ``>>`` floors, ``~n`` is ``-n - 1``. A ``Segments`` table maps a
fraction to a rounded significand; ``ExpTable``, ``ReciprocalTable`` and ``InverseSqrtTable`` say
how a lane word becomes that fraction and how the significand becomes a word. ``EXP`` and
``RECIPROCAL`` (softmax mode ``pwl``) and ``INVERSE_SQRT`` (every mode) hold the tables by lane
type. They belong to the project: ``fit`` made them, and they are listed so that hardware and
models read the same numbers. ``hdl.spec.activations`` has those of GELU and its kin.

Words have 1 sign bit S, 8 exponent bits E (bias 127) and F fraction bits (7 or 23). A significand
``y`` in [2^R, 2^(R+1)] with an exponent field ``e`` makes the word

    magnitude = (e << F) + ((y - 2^R) << (F - R))        e here may be any integer

so that y = 2^(R+1) carries into the exponent. With ``top = magnitude >> F``: top >= 255 gives
infinity, top <= 0 gives zero (underflow flushes after rounding), each with the stated sign.

Error, over all inputs (BF16) or all BF16 arguments and all fractions (FP32): exp, reciprocal and
inverse square root are within 0.81, 0.82 and 0.73 BF16 ulp of the real function; for FP32 lanes
within 2^-11 relative.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

from hdl.spec.formats import BFLOAT16, BINARY32, LaneType

__all__ = ["EXP", "INVERSE_SQRT", "RECIPROCAL", "ExpTable", "InverseSqrtTable", "ReciprocalTable",
           "Segments", "fit", "line"]


@dataclass(frozen=True)
class Segments:
    """y(u) = (base[s] + slope[s] * r) >> shift, for a fraction u of ``argument_bits`` bits.

    s = u >> (argument_bits - segment_bits) numbers the segment, r = u modulo
    2^(argument_bits - segment_bits) is the offset into it. ``base`` includes the half that makes
    the shift round to nearest. y has ``result_bits`` (R) fraction bits, 2^R <= y <= 2^(R+1).
    """

    argument_bits: int
    segment_bits: int
    result_bits: int
    shift: int
    base: tuple[int, ...]
    slope: tuple[int, ...]

    @property
    def offset_bits(self) -> int:
        return self.argument_bits - self.segment_bits

    def __call__(self, u: int) -> int:
        s, r = divmod(u, 1 << self.offset_bits)
        return (self.base[s] + self.slope[s] * r) >> self.shift


@dataclass(frozen=True)
class ExpTable:
    """exp(x) = 2^n * 2^f with n + f = x * log2(e), in fixed point.

    1. FP32 lanes only: round x to BF16 (RNE on the word; overflow gives infinity; NaN stays NaN).
       From here on x is a BF16 word with fields S, E, and fraction g of 7 bits.
    2. NaN gives the canonical NaN. E >= 134 (abs(x) >= 128, infinity included) gives +0 for S = 1
       and +infinity for S = 0.
    3. p = (128 + g) * log2e. With A = segments.argument_bits and k = E - 134 - log2e_bits + A,
       t = p << k for k >= 0, else p >> -k. (abs(x) = (128 + g) * 2^(E - 134); log2e stands for
       log2(e) * 2^log2e_bits.) E = 0 (zero or subnormal) gives t = 0.
    4. t = ~t if S = 1: both signs are floors of the real product, one unit of slack apart.
    5. n = t >> A (floor), u = t modulo 2^A, y = segments(u), exponent field e = n + 127, and the
       word is made as this module's docstring says, sign +.
    """

    log2e: int
    log2e_bits: int
    segments: Segments


@dataclass(frozen=True)
class ReciprocalTable:
    """1/x = 2^-(n+1) * 2/(1 + f) with abs(x) = 2^n (1 + f).

    1. NaN gives the canonical NaN. E = 0 gives the largest finite value, E = 255 (infinity) zero,
       each with the sign of x.
    2. u = the top segments.argument_bits bits of the fraction (all 7 for BF16; FP32 truncates),
       y = segments(u), exponent field e = 253 - E, and the word is made as this module's
       docstring says, with the sign of x.
    """

    segments: Segments


@dataclass(frozen=True)
class InverseSqrtTable:
    """1/sqrt(x) = 2^-(m+1) * 2/sqrt(v) with x = 2^(2m) * v, v in [1, 4).

    1. NaN gives the canonical NaN. E = 0 gives the largest finite value for either sign: a
       subnormal is a zero. Any other x with S = 1 gives the canonical NaN, +infinity +0.
    2. q = 1 - (E modulo 2): v is 1 + f for q = 0, 2 (1 + f) for q = 1. With A =
       segments.argument_bits, u = q * 2^(A-1) plus the top A - 1 bits of the fraction (all 7 for
       BF16; FP32 truncates), y = segments(u).
    3. Exponent field e = 189 + q - (E >> 1), and the word is made as this module's docstring
       says, sign +.
    """

    segments: Segments


def line(samples: Sequence[tuple[int, float]], shift: int) -> tuple[int, int]:
    """(base, slope) of the line near samples (r, value), with half of 2^shift in the base.

    The slope is the integer near the chord's with the least spread of residues, the base the
    middle of the residues rounded.
    """
    (first, low_end), (last, high_end) = samples[0], samples[-1]
    chord = (high_end - low_end) / (last - first)
    trials = []
    for k in range(floor(chord) - 3, ceil(chord) + 4):
        residues = [value - k * r for r, value in samples]
        low, high = min(residues), max(residues)
        trials.append((high - low, round((high + low) / 2), k))
    _, offset, slope = min(trials)
    return offset + (1 << (shift - 1)), slope


def fit(function: Callable[[float], float], argument_bits: int, segment_bits: int,
        result_bits: int, shift: int, middle: bool) -> Segments:
    """The table of a function from [0, 1) to [1, 2]: how the published ones were made.

    Values are scaled by 2^(result_bits + shift); each segment is their ``line``. ``middle``: u
    stands for [u, u + 1), sampled at its centre.
    """
    count = 1 << (argument_bits - segment_bits)
    scale = 1 << (result_bits + shift)
    lines = []
    for s in range(1 << segment_bits):
        lines.append(line([
            (r, scale * function((s * count + r + (0.5 if middle else 0)) / (1 << argument_bits)))
            for r in range(count)], shift))
    base, slope = zip(*lines, strict=True)
    return Segments(argument_bits, segment_bits, result_bits, shift, base, slope)


# Each is fit(lambda f: 2.0**f, ..., middle=True).
EXP: dict[LaneType, ExpTable] = {
    BFLOAT16: ExpTable(log2e=23637, log2e_bits=14, segments=Segments(9, 3, 7, 7,
            base=(16459, 17947, 19544, 21318, 23235, 25332, 27624, 30141),
            slope=(23, 25, 28, 30, 33, 36, 39, 42))),
    BINARY32: ExpTable(log2e=189097, log2e_bits=17, segments=Segments(12, 4, 12, 9,
            base=(2097316, 2190165, 2287106, 2388392, 2494178, 2604609, 2719899, 2840272, 2965970,
                  3097255, 3234461, 3377604, 3527108, 3683256, 3846352, 4016573),
            slope=(363, 379, 396, 413, 431, 450, 470, 491, 513, 536, 559, 584, 610, 637, 665,
                   695))),
}

# Each is fit(lambda f: 2 / (1 + f), ...); BF16 meets its fractions exactly, so middle=False there.
RECIPROCAL: dict[LaneType, ReciprocalTable] = {
    BFLOAT16: ReciprocalTable(Segments(7, 3, 7, 4,
            base=(4102, 3646, 3285, 2989, 2736, 2526, 2350, 2196),
            slope=(-29, -23, -19, -16, -13, -11, -10, -9))),
    BINARY32: ReciprocalTable(Segments(12, 5, 12, 6,
            base=(524192, 508334, 493368, 479281, 465959, 453376, 441441, 430140, 419398, 409161,
                  399464, 390130, 381268, 372793, 364736, 356942, 349536, 342360, 335519, 328940,
                  322671, 316565, 310681, 305077, 299591, 294369, 289253, 284362, 279642, 275071,
                  270643, 266352),
            slope=(-124, -117, -110, -104, -98, -93, -88, -84, -80, -76, -73, -69, -66, -63, -61,
                   -58, -56, -53, -51, -49, -48, -46, -44, -43, -41, -40, -38, -37, -36, -35,
                   -34, -33))),
}

# fit(lambda f: 2 / sqrt(1 + f), ...) and of 2 / sqrt(2 + 2 * f), one after the other; middle=False
# for BF16.
INVERSE_SQRT: dict[LaneType, InverseSqrtTable] = {
    BFLOAT16: InverseSqrtTable(Segments(8, 4, 7, 4,
            base=(4105, 3866, 3673, 3498, 3350, 3219, 3107, 2999,
                  2901, 2740, 2602, 2481, 2374, 2279, 2200, 2122),
            slope=(-15, -12, -11, -9, -8, -7, -7, -6, -10, -9, -8, -7, -6, -5, -5, -4))),
    BINARY32: InverseSqrtTable(Segments(13, 5, 12, 6,
            base=(524190, 508565, 494207, 481145, 468886, 457595, 447057, 437270, 428101, 419450,
                  411273, 403557, 396334, 389503, 382860, 376650, 370659, 359692, 349462, 340240,
                  331553, 323578, 316137, 309167, 302715, 296538, 290807, 285385, 280247, 275372,
                  270735, 266313),
            slope=(-61, -56, -51, -48, -44, -41, -38, -36, -34, -32, -30, -28, -27, -26, -24, -23,
                   -43, -40, -36, -34, -31, -29, -27, -25, -24, -22, -21, -20, -19, -18, -17,
                   -16))),
}
