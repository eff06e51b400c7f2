"""BF16 and codes of integers from and to words of fixed lanes."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_round import rounded_magnitude
from hdl.arith.fixed_word import FACTOR_POINT, WORD_POINT, clip, factor, held, place
from hdl.arith.float_word import is_nan
from hdl.spec.formats import BFLOAT16, FIXED32, Format

__all__ = ["FixedEncoder", "FixedEntry", "FixedRound"]

_LIFT = 25
_LEVELS = 6


class FixedEntry(wiring.Component):
    """Combinational: BF16 word ``value`` → ``result``, the nearest word, ties to even; clipped, NaN
    gives 0."""

    leaf_name = "fixed_entry"

    def __init__(self) -> None:
        super().__init__({"value": In(BFLOAT16.bits), "result": Out(FIXED32.bits)})

    def elaborate(self, platform):
        m = Module()
        own = factor(m, BFLOAT16, self.value, "value")
        right = held(m, _LIFT + FACTOR_POINT - WORD_POINT - own.exponent, _LEVELS, "right")
        found = place(m, Cat(own.significand, Const(0, 1)), right, _LIFT, FIXED32.bits, "result",
                      negate=own.negative)
        m.d.comb += self.result.eq(Mux(is_nan(BFLOAT16, self.value), 0, found.word))
        return m


class FixedRound(wiring.Component):
    """Combinational: ``value``, an integer of ``bits`` bits in units of 2^-``fraction_bits`` →
    ``result``, BF16, one RNE. A zero is +0."""

    def __init__(self, bits: int = FIXED32.bits, fraction_bits: int = FIXED32.fraction_bits):
        self.fraction_bits = fraction_bits
        super().__init__({"value": In(bits), "result": Out(BFLOAT16.bits)})

    @property
    def leaf_name(self) -> str:
        return f"fixed_round_{len(self.value)}_{self.fraction_bits}"

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.result.eq(Cat(*rounded_magnitude(m, self.value, BFLOAT16,
                                                          -self.fraction_bits)))
        return m


class FixedEncoder(wiring.Component):
    """Combinational: word ``value`` → ``result``, a code of ``fmt``, rounded to nearest even and
    clipped, which ``saturated`` tells."""

    def __init__(self, fmt: Format):
        self.fmt = fmt
        super().__init__({"value": In(FIXED32.bits), "result": Out(fmt.storage_bits),
                          "saturated": Out(1)})

    @property
    def leaf_name(self) -> str:
        return f"fixed_encoder_{self.fmt.name}"

    def elaborate(self, platform):
        m = Module()
        whole, below = self.value[WORD_POINT:], self.value[:WORD_POINT]
        near = Signal(len(whole) + 1)
        m.d.comb += near.eq(whole.as_signed()
                            + (below[-1] & (below[:-1].any() | whole[0])))
        found = clip(m, near, self.fmt.storage_bits, "code")
        m.d.comb += [self.result.eq(found.word), self.saturated.eq(found.beyond)]
        return m
