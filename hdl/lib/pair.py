"""One of two equal things."""

from amaranth.hdl import Mux, Value

__all__ = ["one_of"]


def one_of(pair, index: Value) -> Value:
    """``pair[index]`` by one multiplexer, where an array's own index would make a shifter."""
    return Mux(index, pair[1], pair[0])
