"""Timing constraints of a build: its clock and, for every port, what lies outside of it."""

import textwrap

from gen.amaranth_private import mark_used
from gen.cli import describe
from gen.leaves import component_ports
from hdl.spec.config import AcceleratorConfig

__all__ = ["IO_SHARE", "PERIOD_NS", "constraints"]

PERIOD_NS = 10.0
IO_SHARE = 0.3  # of the period, spent outside: a register and some wire at a bus's other end

_CLOCK, _RESET = "aclk", "aresetn"
_HEAD = """\
# {name}: Ottava accelerator, timing constraints; also valid as XDC
# {config}

# One clock. All of the accelerator works at its rising edge.
create_clock -name {clock} -period {period:.3f} [get_ports {{{clock}}}]

# The reset is synchronous, so it is an input like others and no false path: all registers must
# leave it at the same edge. The other ports are at registers outside that are clocked by {clock},
# which take at most {share:.0%} of its period and at least nothing.
"""


def constraints(config: AcceleratorConfig, name: str = "ottava",
                period_ns: float = PERIOD_NS) -> str:
    """Constraints in SDC, which Vivado reads as XDC, for a clock of ``period_ns`` ns.

    Every port but the clock is named once each for the longest and the shortest delay, in a
    command for each bus and direction. ``ValueError`` where the period is not above 0.
    """
    from gen.flat import flat_accelerator

    if not 0 < period_ns < float("inf"):
        raise ValueError(f"period-ns must be a number above 0, not {period_ns!r}")
    component = flat_accelerator(config)
    mark_used(component)  # its ports are all that is wanted
    mark_used(component.component)
    groups: dict[tuple[str, str], list[str]] = {}
    for port, (signal, flow) in component_ports(component).items():
        if port != _CLOCK:
            bus = port[:port.rindex("_") + 1] if "_axi_" in port else port
            kind = "input" if flow.name == "In" else "output"
            groups.setdefault((bus, kind), []).append(
                f"{port}[*]" if len(signal) > 1 else port)
    lines = [_HEAD.format(name=name, config=describe(config), clock=_CLOCK, period=period_ns,
                          share=IO_SHARE)]
    delay = IO_SHARE * period_ns
    for (_, kind), ports in groups.items():
        for limit, value in (("max", delay), ("min", 0)):
            listed = "\n".join(textwrap.wrap(" ".join(ports), 96, initial_indent="  ",
                                             subsequent_indent="  ", break_on_hyphens=False))
            lines.append(f"set_{kind}_delay -clock {_CLOCK} -{limit} {value:.3f} "
                         f"[get_ports {{\n{listed}\n}}]\n")
    return "".join(lines)
