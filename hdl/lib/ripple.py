"""Ripple-carry sums, gate by gate, for the small adders whose area counts most.

Yosys maps every ``+`` to a carry look-ahead structure. At the widths of a MAC or an encoder a
ripple is some 10 % (adder) to 30 % (incrementer) smaller and, next to what surrounds it, as fast.
Use ``+`` everywhere else: it maps to carry chains on FPGAs, and it reads better. In a text for an
FPGA these are ``+``, too.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from hdl.lib.leaf import for_fpga

__all__ = ["add", "increment"]

_CHAIN = 5  # bits from which on a carry chain pays


def add(m: Module, name: str, a: Value, b: Value, carry: Value | None = None) -> Value:
    """``a`` + ``b`` + ``carry``, one bit wider than the operands, which must be equally wide."""
    if len(a) != len(b):
        raise ValueError(f"a and b must be equally wide, not {len(a)} and {len(b)}")
    if for_fpga() and len(a) >= _CHAIN:
        total = Signal(len(a) + 1, name=f"{name}_total")
        if carry is None:
            m.d.comb += total.eq(a.as_unsigned() + b.as_unsigned())
        else:  # the carry comes out of a place below, so that one chain does
            longer = Cat(Const(1, 1), a) + Cat(carry, b)
            m.d.comb += total.eq(longer[1:])
        return total
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
    if for_fpga() and len(value) >= _CHAIN:
        total = Signal(len(value) + 1, name=f"{name}_total")
        m.d.comb += total.eq(value.as_unsigned() + carry)
        return total
    total = []
    for index in range(len(value)):
        after = Signal(name=f"{name}_carry_{index}")
        m.d.comb += after.eq(value[index] & carry)
        total.append(value[index] ^ carry)
        carry = after
    return Cat(*total, carry)
