"""The exact product of two operands, between multiplier and accumulator."""

from amaranth.hdl import signed
from amaranth.lib import data

from hdl.spec.formats import Format

__all__ = ["product_layout"]


def product_layout(fmt: Format) -> data.StructLayout:
    """(−1)^sign · significand · 2^(exponent − 2·(fmt.significand_bits − 1)).

    ``significand``: 2·fmt.significand_bits, two of them integer bits; in [1, 4), not normalised.
    ``exponent``: signed, one bit wider than an operand's. ``sign``: of a zero as well.
    ``is_zero``, ``is_nar``: at most one is set; then significand and exponent carry no meaning.
    Of integers it is a number alone: ``number``, signed(fmt.product_bits).
    """
    if fmt.integer:
        return data.StructLayout({"number": signed(fmt.product_bits)})
    return data.StructLayout({
        "sign": 1, "exponent": signed(fmt.exponent_bits + 1),
        "significand": 2 * fmt.significand_bits, "is_zero": 1, "is_nar": 1})
