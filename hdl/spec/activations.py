"""GELU and its kin by piecewise-linear table, and what they mean to the bit.

All are x times a weight w(x), or the weight alone, and every weight follows from a function of
abs(x): the sigmoid, the normal distribution and the slopes by w(x) = 1 - w(-x), tanh(x) / x because
it is even. From abs(x) = 1 on tanh is a weight alone, with the sign of x: a product's errors would
make it step back where it is almost flat. A weight lies in [0, 1], but for the slopes, which fall
below 0 and rise above 1.
``ACTIVATIONS`` holds a table for each; integers as in ``hdl.spec.tables``, whose ``Segments`` and
``line`` are used.

Error over all 65,536 BF16 inputs, FP32 lanes after the rounding of x: wherever it is beyond 1 BF16
ulp of the real function, which is where the result is a small part of a negative x, it is below
2^-9. Slopes err by .0016 (GELU) and .0010 (SILU) at most, rounded to BF16 by .0043 and .0041: half
an ulp above 1 is .0039. See ``docs/numerics.md``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hdl.spec.commands import Feature, Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.tables import Segments, line

__all__ = ["ACTIVATIONS", "INFERENCE", "Activation", "activations", "fit"]

FRACTION_BITS = 9
_SEGMENT_BITS = 3
_RESULT_BITS = 12
_SHIFT = 4


@dataclass(frozen=True)
class Activation:
    """result(x) = x * w(x), or w(x) alone without ``times_x``.

    1. FP32 lanes only: a subnormal is a zero of its sign; then round x to BF16 (RNE on the word;
       overflow gives infinity; NaN stays NaN).
       From here on x is a BF16 word with fields S, E, and fraction g of 7 bits.
    2. NaN gives the canonical NaN. E = 0 counts as a zero of its sign.
    3. abs(x) lies in octave o: 0 below 1, else o = E - 126, which is 2^(o-1) <= abs(x) < 2^o. In it
       f = floor(abs(x) * 2^9) for o = 0, else f = g << 2; u = o * 2^9 + f.
    4. o <= ``octaves``: y = segments(u), of which there are 8 per octave; 0 <= y <= 2^12 = 1,
       for slopes -2^10 < y <= 2^12. Beyond, y = 0.
    5. w = 2^12 - y where S = 0 and not ``even``, and for ``even`` where o > 0; else w = y.
    6. w = 0 gives zero; else the result is abs(x) * w / 2^12, or w / 2^12 without ``times_x`` and
       for ``even`` where o > 0, rounded to the lane type, RNE (FP32 holds it exactly), below the
       smallest normal zero. Without ``times_x`` the sign is that of w, + for zero; else it is that
       of x, for zeros too.
    """

    segments: Segments
    even: bool = False
    times_x: bool = True

    @property
    def octaves(self) -> int:
        """The last octave of the table."""
        return (len(self.segments.base) >> _SEGMENT_BITS) - 1

    @property
    def signed(self) -> bool:
        """Whether y, and so the weight, may be below 0."""
        return min(self.segments.base) < 0


def fit(function: Callable[[float], float], octaves: int, falls: bool = False) -> Segments:
    """The table of a function on [0, 2^octaves) that is largest at 0, at most 1 there: how the
    published ones were made. Octave 0 is sampled at the centre of [f, f + 1), the others have 7
    bits of fraction. ``falls``: no segment begins above the last value of the one before."""
    offset_bits = FRACTION_BITS - _SEGMENT_BITS
    scale = 1 << _RESULT_BITS + _SHIFT
    lines = []
    for octave in range(octaves + 1):
        centre, step = (0, 4) if octave else (0.5, 1)
        for first in range(0, 1 << FRACTION_BITS, 1 << offset_bits):
            samples = []
            for r in range(0, 1 << offset_bits, step):
                fraction = (first + r + centre) / (1 << FRACTION_BITS)
                x = (1 + fraction) * 2 ** (octave - 1) if octave else fraction
                samples.append((r, scale * function(x)))
            lines.append(line(samples, _SHIFT))
    base, slope = zip(*lines, strict=True)
    # Exact at 0 and never above it.
    start = round(scale * function(0))
    base = (min(max(base[0], start), start + (1 << _SHIFT - 1)), *base[1:])
    if falls:
        base = _falling(base, slope, 1 << offset_bits)
    return Segments(FRACTION_BITS + 3, _SEGMENT_BITS + 3, _RESULT_BITS, _SHIFT, base, slope)


def _falling(base: tuple[int, ...], slope: tuple[int, ...], count: int) -> tuple[int, ...]:
    """``base`` of segments of ``count`` offsets, moved where a segment would begin above what the
    one before ends with, at its last offset in octave 0, at its last multiple of 4 in others:
    that one is raised, or this one lowered, by which is less."""
    found, ends = [base[0]], [1 << _RESULT_BITS]
    for number, (begin, before) in enumerate(zip(base[1:], slope, strict=False)):
        drop = before * (count - (4 if number >> _SEGMENT_BITS else 1))
        raised = (begin >> _SHIFT << _SHIFT) - drop
        lowered = (found[-1] + drop >> _SHIFT << _SHIFT) + (1 << _SHIFT) - 1
        if lowered < begin and raised - found[-1] < begin - lowered and (
                raised >> _SHIFT <= ends[-1]):
            found[-1] = raised
        ends.append(found[-1] + drop >> _SHIFT)
        found.append(min(begin, (ends[-1] + 1 << _SHIFT) - 1))
    return tuple(found)


# Complement of the sigmoid: fit(lambda a: 1 / (1 + exp(a)), 4, falls=True).
_LOGISTIC = Segments(
    12, 6, 12, 4,
    base=(
        32768, 30724, 28678, 26703, 24748, 22827, 21010, 19276, 17619, 16066, 14589,
        13233, 11951, 10789, 9695, 8715, 7822, 6241, 4963, 3935, 3100, 2443, 1942, 1507,
        1170, 712, 453, 285, 172, 118, 57, 37, 23, 14, 10, 9, 8, 8, 8, 8),
    slope=(
        -32, -32, -31, -31, -30, -28, -27, -26, -24, -23, -21, -20, -18, -17, -15, -14,
        -25, -20, -16, -13, -10, -8, -7, -5, -7, -4, -3, -2, -1, -1, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0))

# fit(lambda a: 1 / (1 + exp(1.702 * a)), 3).
_LOGISTIC_1702 = Segments(
    12, 6, 12, 4,
    base=(
        32768, 29269, 25883, 22643, 19595, 16780, 14272, 12057, 10091, 8429, 6971, 5754, 4725,
        3879, 3171, 2609, 2096, 1410, 919, 600, 397, 254, 179, 130, 90, 30, 18, 12, 10, 9, 8, 8),
    slope=(
        -54, -53, -51, -48, -44, -39, -35, -31, -26, -23, -19, -16, -13, -11, -9, -8, -11, -8,
        -5, -3, -2, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0))

# Complement of the normal distribution: fit(lambda a: erfc(a / sqrt(2)) / 2, 2).
_NORMAL = Segments(
    12, 6, 12, 4,
    base=(
        32768, 29484, 26293, 23156, 20213, 17400, 14840, 12484, 10390, 8528, 6932, 5534, 4373,
        3405, 2627, 1998, 1481, 792, 401, 211, 102, 35, 19, 12),
    slope=(
        -51, -50, -49, -46, -44, -40, -37, -33, -29, -25, -22, -18, -15, -12, -10, -8, -11, -6,
        -3, -2, -1, 0, 0, 0))

# fit(lambda a: tanh(a) / a if a < 1 else 1 - tanh(a), 2, falls=True), and 1 for a = 0.
_TANH = Segments(
    12, 6, 12, 4,
    base=(
        65547, 65245, 64239, 62640, 60583, 58132, 55474, 52711, 15596, 12474, 9948,
        7862, 6215, 4907, 3838, 3006, 2361, 1436, 868, 530, 328, 198, 135, 67),
    slope=(
        -5, -16, -25, -32, -38, -41, -43, -44, -49, -40, -33, -26, -21, -17, -13, -10,
        -15, -9, -5, -3, -2, -1, -1, 0))

# 1 - the slope of GELU: fit(lambda a: erfc(a / sqrt(2)) / 2 - a * exp(-a * a / 2) / sqrt(2 * pi),
# 2).
_NORMAL_SLOPE = Segments(
    12, 6, 12, 4,
    base=(
        32768, 26197, 19888, 13983, 8603, 3938, -20, -3154, -5477, -7112, -8064, -8442, -8343,
        -7924, -7275, -6463, -5578, -3846, -2433, -1410, -760, -373, -186, -80),
    slope=(
        -102, -98, -92, -84, -73, -62, -49, -37, -26, -15, -6, 1, 6, 10, 13, 14, 27, 22, 16, 10,
        6, 3, 2, 1))

# 1 - the slope of SILU: fit(lambda a: (1 - a * s(a)) * s(-a), 4), s the sigmoid.
_LOGISTIC_SLOPE = Segments(
    12, 6, 12, 4,
    base=(
        32768, 28660, 24632, 20726, 17025, 13503, 10283, 7339, 4724, 2433, 416, -1301, -2714,
        -3865, -4760, -5448, -5979, -6478, -6513, -6231, -5772, -5187, -4589, -4010, -3428,
        -2476, -1739, -1177, -790, -533, -350, -219, -133, -68, -11, 0, 5, 7, 7, 8),
    slope=(
        -64, -63, -61, -58, -55, -50, -46, -41, -36, -32, -27, -22, -18, -14, -11, -8, -8, -1,
        4, 7, 9, 9, 9, 9, 15, 12, 9, 6, 4, 3, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0))

ACTIVATIONS: dict[Function, Activation] = {
    Function.SIGMOID: Activation(_LOGISTIC, times_x=False),
    Function.SILU: Activation(_LOGISTIC),
    Function.TANH: Activation(_TANH, even=True),
    Function.GELU: Activation(_NORMAL),
    Function.GELU_SIGMOID: Activation(_LOGISTIC_1702),
    Function.GELU_SLOPE: Activation(_NORMAL_SLOPE, times_x=False),
    Function.SILU_SLOPE: Activation(_LOGISTIC_SLOPE, times_x=False),
}

INFERENCE = tuple(function for function in ACTIVATIONS
                  if Feature.BACKWARD not in function.meaning.needs)


def activations(config: AcceleratorConfig) -> tuple[Function, ...]:
    """Those that the unit of a build of ``config`` has, where it has one."""
    return tuple(ACTIVATIONS) if config.trains else INFERENCE
