"""The floating-point accumulator of a MAC: a fused add of an exact product to a partial sum."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.product import product_layout
from hdl.lib import ripple
from hdl.spec.formats import BFLOAT16, BINARY32, Format, LaneType

__all__ = ["FloatAccumulator", "accumulator_type", "psum_type"]

_ACCUMULATORS = {"bf16": BFLOAT16, "fp32": BINARY32, "fused": BINARY32}


def accumulator_type(acc: str) -> LaneType:
    """The word type of accumulator ``acc``, ``bf16``, ``fp32`` or ``fused``."""
    if acc not in _ACCUMULATORS:
        raise ValueError(f"acc must be one of {', '.join(_ACCUMULATORS)}, not {acc!r}")
    return _ACCUMULATORS[acc]


def psum_type(fmt: Format, acc: str) -> LaneType:
    """The word type of ``acc``, if it can accumulate products of ``fmt``."""
    if not isinstance(fmt, Format):
        raise TypeError(f"fmt must be a Format, not {fmt!r}")
    if fmt.integer:
        raise ValueError(f"acc must be int32 for format {fmt.name}, not {acc!r}")
    if acc == "fused":
        raise ValueError("acc must be bf16, fp32 or exact for a mac, not 'fused': its products "
                         "meet in the column")
    word = accumulator_type(acc)
    if fmt.lane is BINARY32 and word is not BINARY32:
        raise ValueError(f"acc must be fp32 for format {fmt.name}, not {acc!r}: "
                         "its product alone exceeds a BF16 significand")
    return word


class FloatAccumulator(wiring.Component):
    """Combinational fused add of an exact product to a floating-point partial sum.

    psum_o = RNE(product + psum_i), rounded once with unbounded exponent; then below 2^-126 it
    becomes zero with its sign, beyond the largest finite value Inf. A NaR product or a NaN psum_i
    gives the canonical NaN, Inf stays Inf. A subnormal psum_i counts as zero with its sign. An
    exact zero sum is +0 unless both addends are −0.

    With 8-bit operands no psum can become subnormal or Inf: products, and so all sums of them, are
    multiples of 2^-48; products are at most 2^48, and sums stop growing before 2^73 (numerics:
    Accumulators). There the tests for underflow and overflow are left out, and a psum_i of Inf
    counts as NaN.

    Members
    -------
    product: In(``product_layout``).
    psum_i, psum_o: In, Out, plain words of ``acc``.

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    ValueError: ``acc`` cannot hold products of ``fmt``.
    """

    def __init__(self, fmt: Format, acc: str):
        self.word = psum_type(fmt, acc)
        self.fmt = fmt
        self.acc = acc
        super().__init__({
            "product": In(product_layout(fmt)),
            "psum_i": In(self.word.bits),
            "psum_o": Out(self.word.bits),
        })

    @property
    def leaf_name(self) -> str:
        return f"accumulator_{self.fmt.name}_{self.acc}"

    @property
    def _bounded(self) -> bool:
        """True where no result can underflow or overflow."""
        return self.fmt.storage_bits == 8

    def elaborate(self, platform):
        m = Module()
        precision = self.word.fraction_bits + 1
        product_bits = 2 * self.fmt.significand_bits
        # Fraction bits below the larger addend's integer bit that must be held exactly: the
        # addend one binade down (product_bits), or two bits of cancellation and a guard bit.
        fraction_bits = max(precision + 2, product_bits)
        self._unpack(m)
        larger, smaller, spill = self._align(m, precision, product_bits, fraction_bits)
        total, negated = self._add(m, larger, smaller, spill)
        self._normalise_and_round(m, total, negated, precision)
        return m

    def _unpack(self, m: Module) -> None:
        """Name what the stages share."""
        word = self.word
        self._field = field = Signal(word.exponent_bits)
        self._psum_zero = Signal()
        # Exponent of the product's upper integer bit, biased as the psum's: bias + 1 is a power
        # of two, so only upper bits change.
        self._product_field = Signal(range(-(3 << 7), 3 << 7)) if not self._bounded else Signal(8)
        m.d.comb += [
            field.eq(self.psum_i[word.fraction_bits:-1]),
            self._psum_zero.eq(~field.any()),
            self._product_field.eq(self.product.exponent + word.bias + 1),
        ]

    def _align(self, m: Module, precision: int, product_bits: int, fraction_bits: int):
        """The addend of larger exponent, and the other one shifted right to it.

        Both have ``fraction_bits`` below their integer bit; ``spill`` stands for all bits lost.
        When the psum is larger, the product is taken one bit down beforehand, so that the
        complement of the exponents' difference is its distance.
        """
        width = len(self._product_field) + self._bounded
        dominant = Signal()  # the product has the larger exponent, or the psum is zero
        self._dominant = dominant
        excess, distance = Signal(width), Signal(width - 1)  # excess: psum − product − 1
        larger, smaller = Signal(fraction_bits + 1), Signal(fraction_bits + 1)
        psum = Cat(self.psum_i[:self.word.fraction_bits], ~self._psum_zero)
        psum = Cat(Const(0, fraction_bits + 1 - precision), psum)
        product = Cat(Const(0, fraction_bits + 1 - product_bits), self.product.significand)
        lower = Cat(Const(0, fraction_bits - product_bits), self.product.significand, Const(0, 1))
        psum_ahead = ~excess[-1]
        complement = Cat(~self._product_field, Const(1, width - len(self._product_field)))
        m.d.comb += [
            excess.eq(ripple.add(m, "excess", complement,
                                 Cat(self._field, Const(0, width - len(self._field))))),
            dominant.eq((~psum_ahead | self._psum_zero) & ~self.product.is_zero),
            distance.eq(excess[:-1] ^ excess[-1].replicate(width - 1)),
            larger.eq(Mux(dominant, product, psum)),
            smaller.eq(Mux(dominant, psum, lower)),
        ]
        steps = max(1, (fraction_bits + 1).bit_length())
        shifted, spill = smaller, Const(0, 1)
        for index in reversed(range(steps)):
            step = 1 << index
            after, lost = Signal(fraction_bits + 1), Signal()
            m.d.comb += [
                after.eq(Mux(distance[index], shifted >> step, shifted)),
                lost.eq(spill | (distance[index] & shifted[:step].any())),
            ]
            shifted, spill = after, lost
        absent, far = Signal(), Signal()
        held, kept = Signal(fraction_bits + 1), Signal()
        m.d.comb += [
            absent.eq(self._psum_zero | self.product.is_zero),  # the smaller one is then zero
            far.eq(distance[steps:].any()),
            held.eq(Mux(far | absent, 0, shifted)),
            kept.eq((far | spill) & ~absent),
        ]
        return larger, held, kept

    def _add(self, m: Module, larger, smaller, spill):
        """|larger ± smaller| with two integer bits and the spill bit at the bottom, as ones'
        complement where it came out negative: one unit at the bottom is then missing."""
        width = len(larger)
        self._subtract = subtract = Signal()
        total, negated = Signal(width + 2), Signal()
        raw = Signal(width + 1)
        # Below the bottom of the larger addend stands spill alone: as a subtrahend it borrows.
        addend = smaller ^ subtract.replicate(width)
        m.d.comb += [
            subtract.eq(self.product.sign ^ self.psum_i[-1]),
            raw.eq(ripple.add(m, "sum", larger, addend, subtract & ~spill)),
            negated.eq(subtract & ~raw[-1]),
            total.eq(Cat(spill | negated, raw[:-1] ^ negated.replicate(width),
                         raw[-1] & ~subtract)),
        ]
        return total, negated

    def _normalise_and_round(self, m: Module, total, negated, precision: int) -> None:
        """One ladder counts the leading zeros and shifts them out; then round, then pack.

        Ones are shifted in below a ones' complement: the missing unit is then an endless row of
        ones, which the rounding takes for what it is.
        """
        width = len(total)
        count, shifted = [], total
        for index in reversed(range((width - 1).bit_length())):
            step = 1 << index
            clear = Signal(name=f"clear_{step}")
            after = Signal(width)
            filled = Cat(negated.replicate(step), shifted)[:width]
            m.d.comb += [
                clear.eq(~shifted[-step:].any()),
                after.eq(Mux(clear, filled, shifted)),
            ]
            shifted = after
            count.insert(0, clear)
        kept, guard, rest = shifted[-precision:], shifted[-1 - precision], shifted[:-1 - precision]
        up = Signal()
        m.d.comb += up.eq(Mux(negated, guard | (rest.all() & kept[0]),
                              guard & (rest.any() | kept[0])))
        field = Signal(len(self._product_field))
        larger_field = Signal.like(field)
        m.d.comb += [
            larger_field.eq(Mux(self._dominant, self._product_field, self._field)),
            field.eq(~(~larger_field + Cat(*count))),
        ]
        # The hidden bit adds 1 to the field, a carry out of the fraction 1 more.
        rounded = Signal(len(field) + precision - 1)
        fraction = ripple.increment(m, "fraction", kept[:-1], up)
        carry = fraction[-1]
        upper = ripple.increment(m, "field", field[1:], field[0] | carry)
        m.d.comb += rounded.eq(Cat(fraction[:-1], ~(field[0] ^ carry), upper[:-1]))
        self._pack(m, rounded, kept[-1], negated)

    def _pack(self, m: Module, rounded, found, negated) -> None:
        word = self.word
        top = (1 << word.exponent_bits) - 1
        sign, zero, nan = Signal(), Signal(), Signal()
        special = self._field.all()
        m.d.comb += [
            zero.eq(~found | (self._psum_zero & self.product.is_zero)),
            sign.eq((Mux(self._dominant, self.product.sign, self.psum_i[-1]) ^ negated)
                    & ~(self._subtract & zero)),
        ]
        if self._bounded:
            m.d.comb += [
                nan.eq(self.product.is_nar | special),
                self.psum_o.eq(Mux(nan, word.nan, Cat(
                    Mux(zero, 0, rounded[:word.bits - 1]), sign))),
            ]
            return
        infinite, huge, tiny = Signal(), Signal(), Signal()
        field = rounded[word.fraction_bits:].as_signed()
        m.d.comb += [
            nan.eq(self.product.is_nar | (special & self.psum_i[:word.fraction_bits].any())),
            infinite.eq(special),
            tiny.eq(zero | (field <= 0)),
            huge.eq(~zero & (field >= top)),
        ]
        limit = Const(top << word.fraction_bits, word.bits - 1)
        magnitude = Mux(tiny, 0, Mux(huge, limit, rounded[:word.bits - 1]))
        m.d.comb += self.psum_o.eq(Mux(nan, word.nan, Mux(
            infinite, Cat(limit, self.psum_i[-1]), Cat(magnitude, sign))))
