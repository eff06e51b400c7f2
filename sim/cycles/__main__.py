"""Cycles of a model, by command, by layer, in all: ``python -m sim.cycles bert-base``.

From the configuration and the commands alone: no weights, no data. ``--svg`` draws the timeline and
the roofline. ``--check`` runs the model's program on the generated Verilog, or without MODEL
commands of every kind, and tells how far the cycle model is from it; exit code 1 beyond 2 %, or
below the lower bound. Exit code 2 for wrong arguments and models.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compiler.checkpoints.packages import ModelUnavailable
from compiler.lowering.fusion import FUSION_LEVELS, fusion_named
from gen.cli import Parser, number, piped
from hdl.spec.config import ACCUMULATORS, AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.cycles import report
from sim.cycles.draw import draw
from sim.cycles.simulate import Memory, Run, simulate
from sim.cycles.workload import MODELS, Workload, workload

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.cycles", description=__doc__.split(":")[0] + ".")
    parser.add_argument("model", metavar="MODEL", nargs="?",
                        help=f"{', '.join(MODELS)}, or the path of a checkpoint")
    parser.add_argument("--fmt", default="posit8", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument("--dim", type=number, help="rows and columns of the array (16)")
    parser.add_argument("--lanes", type=number, help="lanes of the vector unit")
    parser.add_argument("--bus", type=number, default=128, metavar="BITS",
                        help="width of the data bus (128)")
    parser.add_argument("--acc", help=f"one of {', '.join(ACCUMULATORS)}; default: the format's")
    for name in ("input", "weight", "acc"):
        parser.add_argument(f"--{name}-depth", type=number, help="words, as for gen.top")
    parser.add_argument("--tokens", type=number, help="positions (128, or an image's patches)")
    parser.add_argument("--layers", metavar="A:B", help="layers A to B − 1 alone (all)")
    parser.add_argument("--fusion", default="residual",
                        help=f"one of {', '.join(FUSION_LEVELS)} (residual)")
    parser.add_argument("--decode", type=number, default=0, metavar="N",
                        help="pass the last N positions one by one (0)")
    parser.add_argument("--latency", type=number, default=30,
                        help="cycles from an address to the memory's answer (30)")
    parser.add_argument("--each", action="store_true", help="a line for each head's commands")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw timeline and roofline there")
    parser.add_argument("--offline", action="store_true",
                        help="take models from the cache, never from the network")
    parser.add_argument("--check", action="store_true",
                        help="compare with the generated Verilog: MODEL, or commands of every kind "
                        "at --dim or at 4, 8 and 16")
    return parser


def _integer(options: argparse.Namespace, name: str, least: int) -> int:
    value = getattr(options, name)
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer from {least} up, not {value!r}")
    return value


def _config(options: argparse.Namespace, dim: Any) -> AcceleratorConfig:
    bits = options.bus
    if not isinstance(bits, int) or bits % 8:
        raise ValueError(f"bus must be 8 times a power of two from 4 to 64, not {bits!r}")
    depths = {f"{name}_depth": getattr(options, f"{name}_depth")
              for name in ("input", "weight", "acc")}
    return AcceleratorConfig(options.fmt, dim=dim, lanes=options.lanes, acc=options.acc,
                             bus_bytes=bits // 8,
                             **{name: value for name, value in depths.items() if value is not None})


def _layers(text: str | None) -> range | None:
    if text is None:
        return None
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"layers must be A:B, two numbers, not {text!r}") from None
    return range(first, last)


def _work(options: argparse.Namespace) -> Workload:
    if options.model is None:
        raise ValueError(f"MODEL must be one of {', '.join(MODELS)} or the path of a checkpoint")
    config = _config(options, 16 if options.dim is None else options.dim)
    tokens = None if options.tokens is None else _integer(options, "tokens", 1)
    steps, decode = None, _integer(options, "decode", 0)
    if decode:
        if tokens is None or decode >= tokens:
            raise ValueError(f"decode must be less than tokens, which must be given, not {decode}")
        steps = [tokens - decode, *[1] * decode]
    return workload(config, options.model, tokens=tokens, layers=_layers(options.layers),
                    level=fusion_named(options.fusion), steps=steps, offline=options.offline)


def _print(work: Workload, run: Run, each: bool, seconds: float) -> None:
    config, whole = run.config, report.total(work, run)
    print(f"config: fmt {config.fmt}, acc {config.acc}, dim {config.dim}, lanes {config.lanes}, "
          f"bus {8 * config.bus_bytes} bits")
    print(f"work: {work.name}, {whole.commands} commands, {whole.macs} MACs; "
          f"{run.cycles} cycles modelled in {seconds:.1f} s")
    print("\n".join(report.table(report.by_command(work, run, each), run)))
    print()
    print("\n".join(report.table([*report.by_part(work, run), whole], run)))
    peak = whole.macs / config.dim ** 2
    waits = ", ".join(f"{name} {run.total(name)}" for name in report.STALLS)
    print(f"\ncycles {run.cycles}, at the array's peak {peak:.0f}: {peak / run.cycles:.2%}\n"
          f"of the rest: {waits}, array without a tile {report.idle(run)}\n"
          f"the least that ACTIVE can be {whole.bound.cycles}, by {whole.bound.limit}: "
          f"{run.active} are {whole.bound.ratio(run.active):.3f} times as many")


def _check(options: argparse.Namespace) -> int:
    from sim.cycles.check import compare, measure, table
    from sim.harness.accelerator import Accelerator, HungError
    from sim.harness.verilate import ToolError
    work = None if options.model is None else _work(options)
    dims = (4, 8, 16) if options.dim is None else (options.dim,)
    configs = [_config(options, dim) for dim in dims]
    rows = []
    try:
        if work is not None:
            rows.append(measure(Accelerator(work.config), work.name, work.memory, work.address))
        for config in configs if work is None else ():
            rows += compare(Accelerator(config))
    except (HungError, ToolError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(rows)))
    return int(not rows or any(row.fails for row in rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and draw; 0 done, 1 a figure beyond its tolerance, 2 wrong arguments or no model."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.check:
            return _check(options)
        work = _work(options)
        memory = Memory(_integer(options, "latency", 1))
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    simulate(work.config, [])  # compiles the model, where that is not kept from another run
    started = time.monotonic()
    try:
        run = simulate(work.config, work.commands, memory=memory, address=work.address)
    except ValueError as error:
        parser.error(str(error))
    _print(work, run, options.each, time.monotonic() - started)
    if options.svg is not None:
        try:
            options.svg.write_text(draw(work, run), encoding="utf-8")
        except OSError as error:
            parser.error(f"svg must be a writable file, not {str(options.svg)!r}: "
                         f"{error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(piped(main))
