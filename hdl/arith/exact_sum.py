"""Exact sums of products: two's-complement fixed point, which no addition ever rounds."""

from amaranth.hdl import Cat, Value, signed
from amaranth.lib import data

from hdl.spec.config import ceil_log2
from hdl.spec.formats import Format

__all__ = ["exact_sum", "exact_word_bits", "extended"]


def exact_sum(fmt: Format, products: int) -> data.StructLayout:
    """The sum of ``products`` products of ``fmt`` (a power of two), in units of
    2^fmt.product_unit_log2: its value is ``sum`` + ``carry``. ``nar``: one of them is NaR; the
    rest then carries no meaning. Integers need ``sum`` alone: none is NaR, and their multiplier
    gives negative products complete."""
    layout = {"sum": signed(fmt.product_bits + ceil_log2(products))}
    return data.StructLayout(layout if fmt.integer else layout | {"carry": 1, "nar": 1})


def exact_word_bits(fmt: Format, k_max: int) -> int:
    """Bits of an exact accumulator that can hold ``k_max`` products, NaR bit included; 32 of
    integers."""
    return 32 if fmt.integer else fmt.product_bits + ceil_log2(k_max) + 1


def extended(value: Value, width: int) -> Value:
    """The low ``width`` bits of a signed value, however wide it is."""
    return Cat(value, value[-1].replicate(max(0, width - len(value))))[:width]
