"""Ripple-carry sums, gate by gate, for the small adders whose area counts most.

Yosys maps every ``+`` to a carry look-ahead structure. At the widths of a MAC or an encoder a
ripple is some 10 % (adder) to 30 % (incrementer) smaller and, next to what surrounds it, as fast.
Use ``+`` everywhere else: it maps to carry chains on FPGAs, and it reads better.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value

__all__ = ["add", "increment"]


def add(m: Module, name: str, a: Value, b: Value, carry: Value | None = None) -> Value:
    """``a`` + ``b`` + ``carry``, one bit wider than the operands, which must be equally wide."""
    if len(a) != len(b):
        raise ValueError(f"a and b must be equally wide, not {len(a)} and {len(b)}")
    total = []
    for index in range(len(a)):
        unlike = Signal(name=f"{name}_unlike_{index}")
        after = Signal(name=f"{name}_carry_{index}")
        m.d.comb += unlike.eq(a[index] ^ b[index])
        if carry is None:
            total.append(unlike)
            m.d.comb += after.eq(a[index] & b[index])
        else:
            total.append(unlike ^ carry)
            m.d.comb += after.eq(Mux(unlike, carry, a[index]))
        carry = after
    return Cat(*total, carry)


def increment(m: Module, name: str, value: Value, carry: Value) -> Value:
    """``value`` + ``carry``, one bit wider than ``value``."""
    total = []
    for index in range(len(value)):
        after = Signal(name=f"{name}_carry_{index}")
        m.d.comb += after.eq(value[index] & carry)
        total.append(value[index] ^ carry)
        carry = after
    return Cat(*total, carry)
