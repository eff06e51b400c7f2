"""What units of fixed lanes share: integers moved to another unit, rounded once and clipped."""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hdl.spec.formats import BFLOAT16, FIXED32, LaneType

__all__ = ["FACTOR_POINT", "WORD_POINT", "FloatFactor", "Placed", "clip", "factor", "held",
           "place"]

FACTOR_POINT = BFLOAT16.bias + BFLOAT16.fraction_bits
"""The exponent field of a BF16 factor that is its significand itself."""
WORD_POINT = FIXED32.fraction_bits


class Placed(NamedTuple):
    """``word``: an integer in two's complement. ``beyond``: the number is no such word, which then
    is the nearest that there is."""

    word: Signal
    beyond: Signal


class FloatFactor(NamedTuple):
    """A float as (−1)^``negative`` · ``significand`` · 2^(``exponent`` − bias − fraction bits)."""

    negative: Value
    significand: Signal
    exponent: Signal


def factor(m: Module, lane: LaneType, word: Value, name: str) -> FloatFactor:
    """``word`` as a number in every case: a subnormal is zero, what is not finite the largest
    finite value of its sign."""
    exponent = word[lane.fraction_bits:-1]
    significand = Signal(lane.fraction_bits + 1, name=f"{name}_significand")
    field = Signal(lane.exponent_bits, name=f"{name}_exponent")
    special, normal = exponent.all(), exponent.any()
    m.d.comb += [
        significand.eq((Cat(word[:lane.fraction_bits], Const(1, 1))
                        | special.replicate(lane.fraction_bits + 1))
                       & normal.replicate(lane.fraction_bits + 1)),
        field.eq(Cat(exponent[0] & ~special, exponent[1:])),
    ]
    return FloatFactor(word[-1], significand, field)


def clip(m: Module, number: Value, bits: int, name: str) -> Placed:
    """``number``, signed, as a word of ``bits``."""
    found = Placed(Signal(bits, name=f"{name}_word"), Signal(name=f"{name}_beyond"))
    above = number[bits - 1:]
    m.d.comb += [
        found.beyond.eq(above.any() & ~above.all()),
        found.word.eq(Mux(found.beyond, Cat((~number[-1]).replicate(bits - 1), number[-1]),
                          number[:bits])),
    ]
    return found


def held(m: Module, distance: Value, levels: int, name: str) -> Signal:
    """``distance``, signed, within 0 and 2^``levels`` - 1, at either of which a number has left all
    places or none."""
    wide, found = Signal(range(-512, 512), name=f"{name}_distance"), Signal(levels, name=name)
    m.d.comb += [
        wide.eq(distance),
        found.eq(Mux(wide[-1], 0, Mux(wide[levels:].any(), Const(-1, levels), wide[:levels]))),
    ]
    return found


def place(m: Module, number: Value, right: Value, lift: int, bits: int, name: str, *,
          negate: Value | None = None, odd: bool = False) -> Placed:
    """``number`` · 2^(``lift`` − ``right``), signed, rounded to nearest even and clipped to
    ``bits``; its negative where ``negate``.

    ``odd``: an inexact number becomes the odd one of its neighbours, which leaves a later rounding
    to fewer bits as if it were the only one.

    A level a bit of ``right``, the largest first. Each keeps what later ones can still bring down:
    bits below join in ``rest``, those above must be copies of the sign.
    """
    sign = number[-1]
    negate = Const(0, 1) if negate is None else negate
    word: Value = Cat(Const(0, lift + 1), number)  # the lowest bit is the guard
    rest: Value = Const(0, 1)
    over: Value = Const(0, 1)
    kept = bits + 2  # guard, a bit more than the word
    for level in reversed(range(len(right) + 1)):
        room = kept + (1 << level) - 1
        if len(word) > room:
            above = word[room - 1:]
            lost = Signal(name=f"{name}_over_{level}")
            # What later levels move is not yet in its place: only bits that stay beyond count.
            m.d.comb += lost.eq(over | (above ^ sign.replicate(len(above))).any())
            over, word = lost, word[:room]
        if not level:
            break
        step = 1 << level - 1
        moved = Signal(len(word), name=f"{name}_by_{step}")
        below = Signal(name=f"{name}_rest_{step}")
        own = right[level - 1]
        fill = sign.replicate(min(step, len(word)))
        m.d.comb += [
            moved.eq(Mux(own, Cat(word[step:], fill), word)),
            below.eq(rest | (own & word[:step].any())),
        ]
        word, rest = moved, below
    if len(word) < kept:
        word = Cat(word, sign.replicate(kept - len(word)))
    number = word[1:]
    up: Value = word[0] & (rest | word[1])
    if odd:
        number, up = Cat(word[1] | word[0] | rest, word[2:]), Const(0, 1)
    # −(number + up) = ~number + 1 − up: one sum rounds and negates.
    turned = Signal(bits + 2, name=f"{name}_turned")
    m.d.comb += turned.eq((Cat(number, number[-1]) ^ negate.replicate(bits + 2))
                          + (up ^ negate))
    near = clip(m, turned, bits, f"{name}_near")
    found = Placed(Signal(bits, name=f"{name}_word"), Signal(name=f"{name}_beyond"))
    down = sign ^ negate
    m.d.comb += [
        found.beyond.eq(over | near.beyond),
        found.word.eq(Mux(over, Cat((~down).replicate(bits - 1), down), near.word)),
    ]
    return found
