"""``python -m synth.power``: energy and power of each format's units, on real data.

The units' mapped netlists (``synth.flow``) run an attention head of MiniLM-L6, or of the project's
own small layer: operands, partial sums, scores, exponentials, sums and probabilities as the models
compute them, and every word that leaves a unit is compared with theirs. Toggles × Liberty gives pJ
a cycle: inside cells, on nets (½·C·V² of the pins; wires weigh nothing before placing), and of
glitches, by a run with each gate's delay. Beside it stands what OpenSTA says of the same cells and
toggles, without glitches and without the loads at a unit's inputs.

Two pairings, never mixed: as published, posit8 with bit tricks, the others with tables; fair, each
with its smallest lane. A whole is D²·PE + 2D·decoder + D·encoder + L·lane, all of them at work in
every cycle; memories, buffers and control are not in it. There is no clock tree. The same goes to
``build/power.json``.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from compiler.checkpoints import minilm, small
from compiler.checkpoints.heads import AttentionHeads
from compiler.checkpoints.packages import ModelUnavailable
from gen.cli import (
    Parser,
    add_config_flags,
    add_names,
    add_offline,
    add_product,
    config_from,
    deliver,
    integer,
    piped,
    prepared,
    real,
)
from hdl.spec.config import AcceleratorConfig
from synth.area import FORMATS, PAIRINGS
from synth.flow import Flow
from synth.library import LibraryMissing, add_library, library_named
from synth.lint import ToolMissing
from synth.sta import StaError, sta_command
from synth.unit_power import MappingDiffers, UnitPower, measured_units
from synth.workload import UNITS
from synth.yosys import YosysError

__all__ = ["FAILURES", "FAIR", "PUBLISHED", "TITLES", "WHOLE", "Powers", "Units", "add_layer",
           "counts", "failed", "layer_from", "main", "powers", "whole"]

PUBLISHED, FAIR = "the paper's pairing", "bit tricks for all"
TITLES = {PUBLISHED: "as published", FAIR: "fair"}
WHOLE = ("pe", "decoder", "encoder", "lane")
FAILURES = (ValueError, LibraryMissing, MappingDiffers, ModelUnavailable, StaError, ToolMissing,
            YosysError)
"""What keeps powers from being measured."""

Units = Mapping[str, UnitPower]
Powers = Mapping[str, Mapping[str, Units]]
"""By pairing, format and unit."""


def counts(config: AcceleratorConfig) -> dict[str, int]:
    """How many of each unit a whole counts."""
    dim = config.dim
    return dict(zip(WHOLE, (dim * dim, 2 * dim, dim, config.lanes), strict=True))


def whole(config: AcceleratorConfig, units: Units) -> dict[str, float]:
    """pJ a cycle of all PEs, codecs and lanes: ``settled``, with ``glitches``, and of the cells
    alone ``ours`` and by OpenSTA, ``sta``."""
    def total(value) -> float:
        return sum(times * value(units[name]) for name, times in counts(config).items())

    return {"settled": total(lambda one: one.spent.settled),
            "glitches": total(lambda one: one.spent.total),
            "ours": total(lambda one: one.spent.cells), "sta": total(lambda one: one.sta)}


def _unit_lines(title: str, found: Mapping[str, Units], mhz: float) -> list[str]:
    lines = ["", title,
             f"{'':8}{'':12}{'cells':>7}{'words':>7}{'inside':>9}{'nets':>8}{'inputs':>8}"
             f"{'pJ':>9}{'glitches':>10}{'all':>9}{'mW':>8}{'cells, pJ':>11}{'OpenSTA':>9}{'':>8}"]
    for fmt, units in found.items():
        for name, one in units.items():
            spent = one.spent
            lines.append(
                f"{fmt:8}{name:12}{one.cells:7,}{one.compared:7,}{spent.internal:9.2f}"
                f"{spent.switching:8.2f}{spent.inputs:8.2f}{spent.settled:9.2f}"
                f"{spent.glitches:10.2f}{spent.total:9.2f}"
                f"{spent.total * mhz / 1000 + one.leakage:8.3f}{spent.cells:11.2f}{one.sta:9.2f}"
                f"{one.difference:+8.1%}")
    return lines


def _whole_lines(configs: Mapping[str, AcceleratorConfig], found: Mapping[str, Units], mhz: float
                 ) -> list[str]:
    wholes = {fmt: whole(config, found[fmt]) for fmt, config in configs.items()}
    last = f"/{list(wholes)[-1]}"
    lines = [f"{'whole':8}{'':15}{'pJ':>10}{'pJ a MAC':>10}{'with glitches':>15}{'mW':>9}"
             f"{'cells, pJ':>11}{'OpenSTA':>10}{'':>8}{last:>9}{'by OpenSTA':>12}"
             f"{'with glitches':>15}"]
    measure = wholes[list(wholes)[-1]]
    for fmt, one in wholes.items():
        macs = configs[fmt].dim ** 2
        lines.append(
            f"{fmt:8}{configs[fmt].softmax:15}{one['settled']:10,.0f}"
            f"{one['settled'] / macs:10.2f}{one['glitches'] / macs:15.2f}"
            f"{one['glitches'] * mhz / 1000:9,.0f}{one['ours']:11,.0f}{one['sta']:10,.0f}"
            f"{one['sta'] / one['ours'] - 1:+8.1%}{one['settled'] / measure['settled']:9.3f}"
            f"{one['sta'] / measure['sta']:12.3f}{one['glitches'] / measure['glitches']:15.3f}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="synth.power", description=__doc__.splitlines()[0])
    add_library(parser, "osu018")
    parser.add_argument("--script", default="quick", metavar="NAME",
                        help="of ABC: quick, best (quick)")
    add_names(parser, "--fmt", FORMATS, FORMATS, "formats side by side; the last one is the "
              "measure")
    parser.add_argument("--mhz", type=real(0), default=50.0, metavar="F",
                        help="clock of the powers (50)")
    add_layer(parser)
    add_config_flags(parser, output=False, only=("dim", "lanes", "functions", "pe_latency",
                                                 "lane_latency"), dim=16, functions="softmax")
    add_product(parser, "power.json", "every unit's energies, as JSON")
    return parser


def add_layer(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``layer_from``."""
    parser.add_argument("--tokens", type=integer(1), default=64, metavar="N",
                        help="length of the sequence (64)")
    parser.add_argument("--head", type=integer(0), default=0, metavar="N",
                        help="the head that is computed (0)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--small", action="store_true",
                        help="the project's own small layer; needs no network")
    add_offline(source, "MiniLM-L6")


def layer_from(arguments: argparse.Namespace) -> AttentionHeads:
    """The layer that the arguments name; ``ValueError`` where it has no such head,
    ``ModelUnavailable``."""
    layer = (small.load(arguments.tokens) if arguments.small
             else minilm.load(arguments.tokens, offline=arguments.offline))
    layer.rows([arguments.head])
    return layer


def powers(flow: Flow, configs: Mapping[str, Mapping[str, AcceleratorConfig]],
           layer: AttentionHeads, head: int) -> Powers:
    """Every unit of the builds by pairing and format; ``FAILURES``."""
    done = iter(measured_units(flow, [(config, unit) for own in configs.values()
                                      for config in own.values() for unit in UNITS], layer, head))
    return {pairing: {fmt: {unit: next(done) for unit in UNITS} for fmt in own}
            for pairing, own in configs.items()}


def failed(parser: argparse.ArgumentParser, error: Exception) -> int:
    """The exit code after one of ``FAILURES``: 1 where gates or OpenSTA are not as they should be,
    of all else the parser's error."""
    if not isinstance(error, (MappingDiffers, StaError)):
        parser.error(f"{error}; --small needs no network" if isinstance(error, ModelUnavailable)
                     else str(error))
    print(f"{parser.prog}: error: {error}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where the gates give another word than the model, 2 for wrong arguments."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    prepared(parser, arguments.output)
    try:
        sta_command()
        flow = Flow(library_named(arguments.library, arguments.liberty), arguments.script)
        configs = {pairing: {fmt: config_from(arguments, fmt=fmt, softmax=PAIRINGS[pairing][fmt])
                             for fmt in arguments.fmt} for pairing in TITLES}
        layer = layer_from(arguments)
        found = powers(flow, configs, layer, arguments.head)
    except FAILURES as error:
        return failed(parser, error)
    first = next(iter(configs[PUBLISHED].values()))
    text = [f"Energy a cycle, pJ, and power at {arguments.mhz:g} MHz; D = {first.dim}, "
            f"L = {first.lanes}, functions {first.functions}",
            f"{layer.name}, head {arguments.head}, {layer.tokens} tokens", *flow.describe()]
    for pairing, title in TITLES.items():
        modes = ", ".join(f"{fmt} {config.softmax}" for fmt, config in configs[pairing].items())
        text += _unit_lines(f"{title}: {modes}", found[pairing], arguments.mhz)
        text += _whole_lines(configs[pairing], found[pairing], arguments.mhz)
    words = sum(one.compared for own in found.values() for units in own.values()
                for one in units.values())
    text += ["", f"words compared with the models: {words:,}, mismatches: 0"]
    record = {"library": flow.library.name, "mhz": arguments.mhz, "pairings": {
        TITLES[pairing]: {fmt: {
            "config": configs[pairing][fmt].as_dict(), "whole": whole(configs[pairing][fmt], units),
            "units": {name: asdict(one) for name, one in units.items()}}
            for fmt, units in own.items()} for pairing, own in found.items()}}
    return deliver(parser, None, lambda: "\n".join(text) + "\n",
                   beside={arguments.output: lambda: json.dumps(record, indent=1) + "\n"})


if __name__ == "__main__":
    sys.exit(piped(main))
