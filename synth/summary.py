"""``python -m synth.summary`` (``make``): write an accelerator's Verilog and report what it is.

One screen: configuration, ports, modules and their instances, memory bits, gate-equivalents by
this project's own cells, seconds. The Verilog is that of ``gen.top``.
"""

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import monotonic

from gen.cli import (
    Parser,
    add_config_flags,
    add_product,
    add_quiet,
    config_from,
    deliver,
    make_folder,
    piped,
)
from gen.design import Design
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from synth.flow import Flow, Report
from synth.hierarchy import Hierarchy
from synth.library import library_named
from synth.yosys import YosysError

__all__ = ["main", "ports_of", "summary"]

TOP = "ottava"
SHOWN = 12  # units and memories that fit one screen


def ports_of(design: Design) -> list[tuple[str, int, int]]:
    """Ports of the top module by bus: name, number of ports, number of bits."""
    groups: dict[str, list[int]] = {}
    for port in design.modules[design.top].ports:
        groups.setdefault(f"{port.bus}_*" if port.bus else port.name, []).append(port.width)
    return [(name, len(widths), sum(widths)) for name, widths in groups.items()]


def _config_lines(config: AcceleratorConfig | None) -> list[str]:
    if config is None:
        return []
    words = [f"{name}={value}" for name, value in config.as_dict().items() if value is not None]
    lines, line = [], "config "
    for word in words:
        if len(line) + len(word) > 96:
            lines.append(line)
            line = "      "
        line += " " + word
    return [*lines, line]


def summary(described: Design, report: Report, path: str) -> str:
    """The screen, without the seconds."""
    hierarchy = Hierarchy(described)
    ports = ", ".join(f"{name} ({count} ports, {bits} bits)" if count > 1 else name
                      for name, count, bits in ports_of(described))
    lines = [f"{path}: {len(described.text):,} bytes of Verilog-2005, top module {report.top}",
             *_config_lines(described.config), f"ports   {ports}",
             f"modules {len(hierarchy.counts)} distinct, {sum(hierarchy.counts.values()):,} "
             "instances", "",
             f"{'mapped unit':44}{'instances':>10}{'gates each':>12}{'gates':>12}"]
    by_share = sorted(report.units.values(), reverse=True,
                      key=lambda unit: unit.gates * report.counts[unit.unit])
    for unit in by_share[:SHOWN]:
        times = report.counts[unit.unit]
        lines.append(f"{unit.unit[:43]:44}{times:>10,}{unit.gates:>12,.0f}"
                     f"{unit.gates * times:>12,.0f}")
    rest = by_share[SHOWN:]
    if rest:
        gates = sum(unit.gates * report.counts[unit.unit] for unit in rest)
        lines.append(f"{f'{len(rest)} more':66}{gates:>12,.0f}")
    memories = [f"{count}× {name}" for name, count in hierarchy.memories.items()]
    lines += [f"{'all':66}{report.gates:>12,.0f}", "",
              f"gate-equivalents {report.gates:,.0f} (of them registers "
              f"{report.register_gates:,.0f}); library ottava, script quick",
              f"memory bits {report.memory_bits:,} in {len(memories)} kinds of macro: "
              + ", ".join(memories[:4]) + (" …" if len(memories) > 4 else "")]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    start = monotonic()
    parser = Parser(prog="synth.summary", description="Generate an accelerator and describe it.")
    add_quiet(parser)
    add_config_flags(parser, output=False)
    add_product(parser, "acc.v", "the accelerator, as Verilog")
    arguments = parser.parse_args(argv)
    try:
        config = config_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    make_folder(parser, Path(arguments.output).absolute().parent)
    made = cache(lambda: design(config, TOP))
    deliver(parser, arguments.output, lambda: made().text)
    generated = monotonic()
    try:
        report = Flow(library_named(), quiet=arguments.quiet).measure(made())
    except YosysError as error:
        print(f"synth.summary: error: {error}", file=sys.stderr)
        return 1
    screen = summary(made(), report, arguments.output)
    seconds = f"seconds {generated - start:.1f} to Verilog, {monotonic() - generated:.1f} to map it"
    return deliver(parser, None, lambda: f"{screen}\n{seconds}\n")


if __name__ == "__main__":
    sys.exit(piped(main))
