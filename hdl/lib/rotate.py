"""Barrel rotation of bytes."""

from amaranth.hdl import Module, Mux, Signal, Value

__all__ = ["rotate_bytes"]


def rotate_bytes(m: Module, name: str, word: Value, amount: Value, nbytes: int, *,
                 left: bool) -> Value:
    """``word`` of ``nbytes`` bytes (a power of two) rotated by ``amount`` bytes, combinational.

    ``left`` moves byte 0 to byte ``amount``; otherwise byte ``amount`` moves to byte 0.
    """
    for stage in range((nbytes - 1).bit_length()):
        step = 8 << stage
        rotated = word.rotate_left(step) if left else word.rotate_right(step)
        result = Signal(8 * nbytes, name=f"{name}_{stage}")
        m.d.comb += result.eq(Mux(amount[stage], rotated, word))
        word = result
    return word
