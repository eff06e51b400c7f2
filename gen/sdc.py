"""Timing constraints of a build: its clock and, for every port, what lies outside of it."""

import textwrap
from collections.abc import Mapping

from gen.amaranth_private import mark_used
from gen.cli import PERIOD_NS, describe, describe_surroundings
from gen.leaves import component_ports
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["IO_SHARE", "constraints"]

IO_SHARE = 0.3  # of the period, spent outside: a register and some wire at a bus's other end

_CLOCK, _CONTROL_CLOCK, _CONTROL = "aclk", "s_axi_ctrl_aclk", "s_axi_ctrl_"
_HEAD = """\
# {name}: Ottava accelerator, timing constraints; also valid as XDC
# {config}
# Of the block built alone: in a design of others its ports are paths inside, and its clocks theirs.

# {count}. All of the accelerator works at {edges}.
{clocks}
{reset}The other ports are at registers outside that are clocked by {clock},
# which take at most {share:.0%} of its period and at least nothing.
"""
_RESET = {
    "sync": """\
# The reset is synchronous, so it is an input like others and no false path: all registers must
# leave it at the same edge. """,
    "async": """\
# A reset may begin at any time and ends with the clock, so that it is an input like others: all
# registers must leave it at the same edge, which recovery and removal make sure of.
# """}
_BETWEEN = """\

# Between the clocks pass, both ways, levels into synchronisers and words that stand still for two
# edges of the clock that takes them: from csr/lite/greeting, greeted, write_request, write_answer,
# read_request, read_answer and interrupt_pending into a synchroniser each; from the words
# of csr/lite into registers there. Nothing else does. A word may take one period of the clock that
# takes it; hold times between the clocks mean nothing.
"""


def constraints(config: AcceleratorConfig, name: str = "ottava",
                period_ns: float = PERIOD_NS, surroundings: Surroundings | None = None,
                control_period_ns: float = PERIOD_NS) -> str:
    """Constraints in SDC, which Vivado reads as XDC, for a clock of ``period_ns`` ns.

    Every port but the clocks is named once each for the longest and the shortest delay, in a
    command for each bus and direction. A control port with a clock of its own has
    ``control_period_ns``, and what passes between the clocks a longest delay. ``ValueError`` where
    a period is not above 0.
    """
    from gen.flat import flat_accelerator

    surroundings = surroundings or Surroundings()
    for option, value in (("period-ns", period_ns), ("control-period-ns", control_period_ns)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{option} must be a number above 0, not {value!r}")
    periods = {_CLOCK: period_ns}
    if surroundings.control_clock:
        periods[_CONTROL_CLOCK] = control_period_ns
    component = flat_accelerator(config, surroundings)
    mark_used(component)  # its ports are all that is wanted
    mark_used(component.component)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for port, (signal, flow) in component_ports(component).items():
        if port not in periods:
            bus = port[:port.rindex("_") + 1] if "_axi_" in port else port
            kind = "input" if flow.name == "In" else "output"
            groups.setdefault((_clock_of(port, periods), bus, kind), []).append(
                f"{port}[*]" if len(signal) > 1 else port)
    one = len(periods) == 1
    lines = [_HEAD.format(
        name=name, config="\n# ".join([describe(config), *describe_surroundings(surroundings)]),
        count="One clock" if one else "Two clocks, which may be unrelated",
        edges="its rising edge" if one else "their rising edges",
        clocks="".join(f"create_clock -name {clock} -period {period:.3f} [get_ports {{{clock}}}]\n"
                       for clock, period in periods.items()),
        reset=_RESET[surroundings.reset], clock=_CLOCK if one else "their bus's clock",
        share=IO_SHARE)]
    for (clock, _, kind), ports in groups.items():
        for limit, value in (("max", IO_SHARE * periods[clock]), ("min", 0)):
            listed = "\n".join(textwrap.wrap(" ".join(ports), 96, initial_indent="  ",
                                             subsequent_indent="  ", break_on_hyphens=False))
            lines.append(f"set_{kind}_delay -clock {clock} -{limit} {value:.3f} "
                         f"[get_ports {{\n{listed}\n}}]\n")
    if not one:
        lines.append(_BETWEEN)
        lines += [f"set_{what} -from [get_clocks {giver}] -to [get_clocks {taker}]\n"
                  for giver, taker in ((_CLOCK, _CONTROL_CLOCK), (_CONTROL_CLOCK, _CLOCK))
                  for what in (f"max_delay {periods[taker]:.3f}", "false_path -hold")]
    return "".join(lines)


def _clock_of(port: str, periods: Mapping[str, float]) -> str:
    """The clock of the registers outside that ``port`` is at."""
    controls = port.startswith(_CONTROL) or port == "interrupt"
    return _CONTROL_CLOCK if controls and _CONTROL_CLOCK in periods else _CLOCK
