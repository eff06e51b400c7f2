"""Number formats as data: what is stored, what is unpacked, and what the lanes compute in.

A ``Format`` is what ``--fmt`` names. It holds one or two ``Encoding``s (two for the hybrid
``fp8``, chosen per tensor at run time). Everything else is derived. No arithmetic lives here.
"""

from dataclasses import dataclass
from fractions import Fraction

__all__ = [
    "BFLOAT16",
    "BINARY32",
    "E4M3",
    "E5M2",
    "FIXED32",
    "FORMATS",
    "INT8",
    "POSIT8",
    "POSIT8ES0",
    "POSIT8ES2",
    "Encoding",
    "FixedType",
    "FloatEncoding",
    "Format",
    "IntegerEncoding",
    "LaneType",
    "PositEncoding",
    "format_named",
]


@dataclass(frozen=True)
class PositEncoding:
    """Posit(``bits``, ``es``); negatives are the two's complement of the positive code.

    ``flush_log2`` is log2 of the flush threshold T: \\|x\\| < T encodes as zero and
    T <= \\|x\\| < minpos as minpos. ``None`` is the posit standard (never to zero).
    """

    name: str
    bits: int
    es: int
    flush_log2: int | None

    @property
    def max_exponent(self) -> int:
        """log2 of maxpos; minpos is its reciprocal."""
        return (self.bits - 2) << self.es

    @property
    def min_exponent(self) -> int:
        """log2 of minpos."""
        return -self.max_exponent

    @property
    def max_finite(self) -> Fraction:
        return Fraction(2) ** self.max_exponent

    def fraction_bits_at(self, exponent: int) -> int:
        """Fraction bits of the codes in [2^exponent, 2^(exponent + 1)): what the regime leaves."""
        regime = exponent >> self.es
        run = regime + 1 if regime >= 0 else -regime
        return max(0, self.bits - 1 - (run + 1) - self.es)

    @property
    def nar_code(self) -> int:
        return 1 << (self.bits - 1)


@dataclass(frozen=True)
class FloatEncoding:
    """A float of 1 sign, ``exponent_bits`` and ``fraction_bits``, with subnormals.

    ``ieee_specials`` means that the top exponent holds Inf and NaN (IEEE 754); otherwise only the
    all-ones code is NaN (OCP E4M3). ``nar_code`` is the canonical NaN that an encoder emits.
    """

    name: str
    exponent_bits: int
    fraction_bits: int
    ieee_specials: bool
    nar_code: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def min_exponent(self) -> int:
        """log2 of the smallest subnormal."""
        return 1 - self.bias - self.fraction_bits

    @property
    def max_exponent(self) -> int:
        """⌊log2⌋ of the largest finite value."""
        return (self.max_code >> self.fraction_bits) - self.bias

    def fraction_bits_at(self, exponent: int) -> int:
        """Fraction bits of the codes in [2^exponent, 2^(exponent + 1)), normalised."""
        return self.fraction_bits - max(0, 1 - self.bias - exponent)

    @property
    def max_code(self) -> int:
        """Code of the largest finite value."""
        top = (1 << (self.bits - 1)) - 1
        return top - (1 << self.fraction_bits) if self.ieee_specials else top - 1

    @property
    def max_finite(self) -> Fraction:
        exponent, fraction = divmod(self.max_code, 1 << self.fraction_bits)
        significand = Fraction((1 << self.fraction_bits) + fraction, 1 << self.fraction_bits)
        return significand * Fraction(2) ** (exponent - self.bias)


class _TwosComplement:
    """Integers of ``bits`` bits in two's complement."""

    bits: int

    @property
    def least(self) -> int:
        """The smallest, one further from zero than the largest."""
        return -(1 << self.bits - 1)

    @property
    def most(self) -> int:
        return (1 << self.bits - 1) - 1


@dataclass(frozen=True)
class IntegerEncoding(_TwosComplement):
    """Integers of ``bits`` bits in two's complement: every code is a number, none is NaR.

    ``nar_code`` is what NaN encodes as. Infinities are clipped as any other value is.
    """

    name: str
    bits: int
    nar_code: int = 0

    @property
    def min_exponent(self) -> int:
        """log2 of the smallest magnitude but zero."""
        return 0

    @property
    def max_exponent(self) -> int:
        """⌊log2⌋ of the largest number."""
        return self.bits - 2

    @property
    def max_finite(self) -> Fraction:
        return Fraction(self.most)


Encoding = PositEncoding | FloatEncoding | IntegerEncoding


@dataclass(frozen=True)
class LaneType:
    """An IEEE-style float word that the vector unit computes in; subnormals flush to zero."""

    name: str
    exponent_bits: int
    fraction_bits: int

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def nan(self) -> int:
        """Canonical quiet NaN."""
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits | 1 << (self.fraction_bits - 1)


@dataclass(frozen=True)
class FixedType(_TwosComplement):
    """A word that lanes of integers compute in, which counts units of 2^-``fraction_bits``; what is
    beyond it saturates."""

    name: str
    bits: int
    fraction_bits: int


BFLOAT16 = LaneType("bf16", 8, 7)
FIXED32 = FixedType("fixed", 32, 16)
BINARY32 = LaneType("fp32", 8, 23)

POSIT8 = PositEncoding("posit8", 8, 1, -13)
POSIT8ES0 = PositEncoding("posit8es0", 8, 0, -7)
POSIT8ES2 = PositEncoding("posit8es2", 8, 2, -26)
E4M3 = FloatEncoding("e4m3", 4, 3, ieee_specials=False, nar_code=0x7F)
E5M2 = FloatEncoding("e5m2", 5, 2, ieee_specials=True, nar_code=0x7E)
INT8 = IntegerEncoding("int8", 8)
BF16_ENCODING = FloatEncoding("bf16", 8, 7, ieee_specials=True, nar_code=0x7FC0)


@dataclass(frozen=True)
class Format:
    """One value of ``--fmt``.

    ``encodings``: what a stored tensor may hold, the run-time bit ``e5m2`` picking the second.
    ``exponent_bits``, ``significand_bits``: the unpacked operand that the array sees, a two's
    complement unbiased exponent and a normalised significand with its hidden bit. Of integers, the
    exponent has no bits and the significand is the number in two's complement.
    ``lane``: the type of the vector unit. ``default_accumulator``, ``default_softmax``: as named.
    """

    name: str
    encodings: tuple[Encoding, ...]
    exponent_bits: int
    significand_bits: int
    lane: LaneType
    default_accumulator: str
    default_softmax: str

    @property
    def storage_bits(self) -> int:
        return self.encodings[0].bits

    @property
    def storage_bytes(self) -> int:
        return self.storage_bits // 8

    @property
    def product_unit_log2(self) -> int:
        """log2 of the unit that every product of two finite values is a multiple of: min²."""
        return 2 * min(encoding.min_exponent for encoding in self.encodings)

    @property
    def product_bits(self) -> int:
        """Bits of a product in two's complement fixed point, counted in that unit (W1)."""
        if self.integer:
            return 2 * self.storage_bits
        largest = max(encoding.max_finite for encoding in self.encodings)
        return 1 + int(largest ** 2 / Fraction(2) ** self.product_unit_log2).bit_length()

    @property
    def default_functions(self) -> str:
        """Those of inference, of integers scales too, for they have no exponent."""
        return "scales" if self.integer else "all"

    @property
    def integer(self) -> bool:
        """True where operands are integers, which no sum ever rounds."""
        return isinstance(self.encodings[0], IntegerEncoding)

    @property
    def hybrid(self) -> bool:
        """True where each tensor picks one of two encodings at run time."""
        return len(self.encodings) > 1


def _table(*formats: Format) -> dict[str, Format]:
    return {fmt.name: fmt for fmt in formats}


FORMATS: dict[str, Format] = _table(
    Format("posit8", (POSIT8,), 5, 5, BFLOAT16, "bf16", "approx_shifted"),
    Format("posit8es0", (POSIT8ES0,), 4, 6, BFLOAT16, "bf16", "approx_shifted"),
    Format("posit8es2", (POSIT8ES2,), 6, 4, BFLOAT16, "bf16", "approx_shifted"),
    Format("e4m3", (E4M3,), 5, 4, BFLOAT16, "bf16", "pwl"),
    Format("e5m2", (E5M2,), 5, 3, BFLOAT16, "bf16", "pwl"),
    Format("fp8", (E4M3, E5M2), 5, 4, BFLOAT16, "bf16", "pwl"),
    Format("bf16", (BF16_ENCODING,), 9, 8, BINARY32, "fp32", "pwl"),
    Format("int8", (INT8,), 0, 8, BFLOAT16, "int32", "pwl"),
)


def format_named(name: str) -> Format:
    """The format called ``name``; ``ValueError`` names the value and what is allowed."""
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    return FORMATS[name]
