"""FP32 word → BF16 word: the only such rounding, for all who need it."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from hdl.spec.formats import BFLOAT16, BINARY32

__all__ = ["bfloat16_round"]

_CUT = BINARY32.bits - BFLOAT16.bits
_LARGEST = (1 << BFLOAT16.bits - 1) - (1 << BFLOAT16.fraction_bits) - 1


def bfloat16_round(m: Module, word: Value, name: str, *, flush: bool = False,
                   beyond: Signal | None = None) -> Signal:
    """BF16 word of the FP32 word ``word``, combinational; the signals' names start with ``name``.

    To nearest, ties to even; both types have the same exponent. Any NaN gives the canonical one.
    Beyond the largest finite value comes infinity. Where ``beyond`` is given, such a value
    saturates and sets that signal, and infinity gives NaN. A subnormal stays one, or rounds up to
    the smallest normal value; with ``flush`` it gives a zero of its sign.
    """
    kept, below = word[_CUT:], word[:_CUT]
    magnitude, exponent = kept[:-1], kept[BFLOAT16.fraction_bits:-1]
    result = Signal(BFLOAT16.bits, name=f"{name}_bf16")
    up = below[-1] & (below[:-1].any() | kept[0])
    if beyond is None:
        nan = exponent.all() & word[:BINARY32.fraction_bits].any()
    else:
        largest = Signal(name=f"{name}_largest")
        m.d.comb += [largest.eq(magnitude == _LARGEST), beyond.eq(largest & below.any())]
        up, nan = up & ~largest, exponent.all()
    # A carry out of the fraction steps into the exponent, up to infinity's. The sign goes along
    # where nothing is done to the magnitude after it: only a NaN's carry reaches it.
    whole = beyond is None and not flush
    rounded = Signal(BFLOAT16.bits if whole else len(magnitude), name=f"{name}_rounded")
    m.d.comb += rounded.eq((kept if whole else magnitude) + up)
    if whole:
        finite = rounded
    else:
        finite = Cat(Mux(exponent.any(), rounded, 0) if flush else rounded, word[-1])
    m.d.comb += result.eq(Mux(nan, BFLOAT16.nan, finite))
    return result
