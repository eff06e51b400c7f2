"""The unpacked operand: what decoders give and what the array computes with."""

from amaranth.hdl import Cat, Format, Value, signed
from amaranth.lib import data

from hdl.spec import formats

__all__ = ["Operand", "OperandLayout", "OperandVector"]


class OperandLayout(data.StructLayout):
    """An operand of ``fmt``: sign · significand · 2^exponent, the significand in [1, 2).

    Members
    -------
    fraction: of the significand, fmt.significand_bits − 1.
    nonzero: clear where the value is zero; else it is the significand's hidden bit.
    exponent: signed(fmt.exponent_bits), unbiased.
    sign: of a zero as well.
    is_nar: NaR, NaN or Inf; then ``nonzero`` is set.

    Without ``nonzero`` or with ``is_nar`` fraction and exponent carry no meaning. All zeros is +0.
    Of a format of integers there is one member, ``number``: signed(fmt.significand_bits).

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    """

    def __init__(self, fmt: formats.Format) -> None:
        if not isinstance(fmt, formats.Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        super().__init__({"number": signed(fmt.significand_bits)} if fmt.integer else {
            "fraction": fmt.significand_bits - 1, "nonzero": 1,
            "exponent": signed(fmt.exponent_bits), "sign": 1, "is_nar": 1})

    def __call__(self, value: Value) -> "Operand":
        return Operand(self, value)


class Operand(data.View):
    """A signal of an ``OperandLayout``."""

    @property
    def significand(self) -> Value:
        """The fraction below the hidden bit, which is clear in a zero."""
        return Cat(self.fraction, self.nonzero)

    @property
    def is_zero(self) -> Value:
        return ~self.nonzero


class OperandVector(data.ArrayLayout):
    """``count`` operands of ``fmt`` side by side, the first lowest.

    Shown as one number: names for the fields of D operands in every row and stack would take the
    generator longer than the rows themselves.
    """

    def __init__(self, fmt: formats.Format, count: int) -> None:
        super().__init__(OperandLayout(fmt), count)

    def format(self, value: data.View, spec: str) -> Format:
        """All operands as one number, whatever ``spec``: fields of each would be wires of each."""
        return Format("{}", Value.cast(value))
