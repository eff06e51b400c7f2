"""The multiply-accumulate unit of a processing element: operands | multiplier | accumulator."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_accumulator import ExactAccumulator
from hdl.arith.exact_sum import exact_sum, exact_word_bits
from hdl.arith.fixed_product import FixedProduct
from hdl.arith.float_accumulator import FloatAccumulator, psum_type
from hdl.arith.multiplier import Multiplier
from hdl.codec.operand import Operand, OperandLayout
from hdl.lib.leaf import with_latency
from hdl.spec.formats import Format

__all__ = ["ExactMultiplier", "Mac"]


def _multiply(m: Module, fmt: Format, a: Operand, b: Operand, registered: bool) -> data.View:
    """Product of two operands, from a register if asked."""
    m.submodules.multiplier = multiplier = Multiplier(fmt)
    m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
    if not registered:
        return multiplier.o
    product = Signal.like(multiplier.o, name="product", reset_less=True)
    m.d.sync += product.eq(multiplier.o)
    return product


class Mac(wiring.Component):
    """Fused multiply-accumulate: psum_o := a · b + psum_i, rounded once, of ``exact`` and ``int32``
    never.

    ``a`` and ``b`` take ``latency`` clocks to ``psum_o``, 1 or 2: the second register holds the
    product. ``psum_i`` takes 1, so that at latency 2 it meets the operands of the clock before.
    Throughput: 1 per clock; no register has a reset. ``k_max``: the number of products that an
    ``exact`` psum can hold.

    Members
    -------
    a, b: In(``OperandLayout``).
    psum_i, psum_o: In, Out, words of ``acc``: ``FloatAccumulator`` and ``ExactAccumulator`` say
        what they hold.

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    ValueError: ``latency`` is not 1 or 2, or ``acc`` cannot hold products of ``fmt``.
    """

    def __init__(self, fmt: Format, acc: str, latency: int = 1, k_max: int = 4096):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        if latency not in (1, 2):
            raise ValueError(f"latency must be 1 or 2, not {latency!r}")
        self.fmt = fmt
        self.acc = acc
        self.latency = latency
        self.k_max = k_max
        self._exact = acc == ("int32" if fmt.integer else "exact")
        word = exact_word_bits(fmt, k_max) if self._exact else psum_type(fmt, acc).bits
        super().__init__({
            "a": In(OperandLayout(fmt)), "b": In(OperandLayout(fmt)),
            "psum_i": In(word), "psum_o": Out(word),
        })

    @property
    def leaf_name(self) -> str:
        return with_latency(f"mac_{self.fmt.name}_{self.acc}", self.latency)

    def elaborate(self, platform):
        m = Module()
        product = _multiply(m, self.fmt, self.a, self.b, self.latency == 2)
        if self._exact:
            accumulator = ExactAccumulator(self.fmt, self.k_max)
            m.submodules.fixed = target = FixedProduct(self.fmt)
            m.d.comb += accumulator.addend.eq(target.o)
        else:
            target = accumulator = FloatAccumulator(self.fmt, self.acc)
        m.submodules.accumulator = accumulator
        psum = Signal(len(self.psum_o), reset_less=True)
        m.d.comb += [target.product.eq(product), accumulator.psum_i.eq(self.psum_i),
                     self.psum_o.eq(psum)]
        m.d.sync += psum.eq(accumulator.psum_o)
        return m


class ExactMultiplier(wiring.Component):
    """Exact product in fixed point, for a column that adds all its products at once.

    Members
    -------
    a, b: In(``OperandLayout``).
    o: Out(``exact_sum``) of one product, ``latency`` clocks later, 0 to 2: registers after the
        multiplier, and after the shift.

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    ValueError: ``latency`` is not 0, 1 or 2.
    """

    def __init__(self, fmt: Format, latency: int = 0):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        if latency not in (0, 1, 2):
            raise ValueError(f"latency must be 0, 1 or 2, not {latency!r}")
        self.fmt = fmt
        self.latency = latency
        super().__init__({
            "a": In(OperandLayout(fmt)), "b": In(OperandLayout(fmt)),
            "o": Out(exact_sum(fmt, 1)),
        })

    @property
    def leaf_name(self) -> str:
        return f"exact_multiplier_{self.fmt.name}_{self.latency}"

    def elaborate(self, platform):
        m = Module()
        m.submodules.fixed = fixed = FixedProduct(self.fmt)
        product = _multiply(m, self.fmt, self.a, self.b, self.latency > 0)
        shifted = fixed.o
        if self.latency == 2:
            shifted = Signal.like(fixed.o, name="shifted", reset_less=True)
            m.d.sync += shifted.eq(fixed.o)
        m.d.comb += [fixed.product.eq(product), self.o.eq(shifted)]
        return m
