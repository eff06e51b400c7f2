"""The only place where a bit passes from one clock to another."""

from amaranth.hdl import ClockSignal, Instance, Module, Signal

from hdl.lib.leaf import macro

__all__ = ["synchronised"]


def synchronised(m: Module, level: Signal, domain: str) -> Signal:
    """``level``, a register of another clock's, in ``domain``: two or three of its cycles later.

    Two registers in a row without a reset, which a library's own cell may replace: the module
    ``ottava_synchroniser`` of the generated text.
    """
    name = f"{level.name}_in_{domain}"
    there = Signal(name=name)
    cell = macro("ottava_synchroniser")
    if cell is None:
        stages = Signal(2, name=f"{name}_stages", reset_less=True)
        m.d[domain] += stages.eq((stages << 1) | level)
        m.d.comb += there.eq(stages[1])
    else:
        m.submodules[f"to_{name}"] = Instance(cell, i_clk=ClockSignal(domain), i_d=level,
                                              o_q=there)
    return there
