"""Barrel rotation of elements."""

from amaranth.hdl import Module, Mux, Signal, Value

__all__ = ["rotate"]


def rotate(m: Module, name: str, word: Value, amount: Value, elements: int, width: int, *,
           left: bool) -> Value:
    """``word`` of ``elements`` (a power of two) of ``width`` bits, rotated by ``amount`` of them,
    combinational.

    ``left`` moves element 0 to element ``amount``; otherwise element ``amount`` moves to element 0.
    """
    for stage in range((elements - 1).bit_length()):
        step = width << stage
        rotated = word.rotate_left(step) if left else word.rotate_right(step)
        result = Signal(width * elements, name=f"{name}_{stage}")
        m.d.comb += result.eq(Mux(amount[stage], rotated, word))
        word = result
    return word
