"""Cycles of a model, by command, by layer, in all: ``python -m sim.cycles bert-base``.

From the configuration and the commands alone: no weights, no data. ``--svg`` draws the timeline and
the roofline. ``--check`` runs the model's program on the generated Verilog, or without MODEL
commands of every kind, and reports how far the cycle model is from it; exit code 1 beyond 2 %, or
below the lower bound. Exit code 2 for wrong arguments and models.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from compiler.centred import CENTRINGS
from compiler.checkpoints.packages import ModelUnavailable
from compiler.lowering.fusion import FUSION_LEVELS, fusion_named
from compiler.lowering.scaling import SCALES, STATIC
from compiler.training.description import PLACES, LowRank, Training, WholeMatrices
from compiler.work import decode_steps
from gen.cli import (
    Line,
    Parser,
    add_centring,
    add_config_flags,
    add_model_flags,
    add_quiet,
    config_from,
    deliver,
    integer,
    piped,
    writable,
)
from sim.cycles import report
from sim.cycles.draw import draw
from sim.cycles.simulate import Memory, Run, simulate
from sim.cycles.training import inference_work, ratios, training_work
from sim.cycles.workload import MODELS, Workload, workload
from sim.harness.dram import memory_named

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.cycles", description=__doc__.split(":")[0] + ".")
    add_model_flags(parser, MODELS, tuple(FUSION_LEVELS),
                    tokens="128, or an image's patches", optional=True)
    parser.add_argument("--scales", choices=(*SCALES, STATIC), metavar="WHICH",
                        help=f"of operands of products: {', '.join(SCALES)} or {STATIC} (row of "
                        "int8, else unit)")
    add_centring(parser, CENTRINGS)
    parser.add_argument("--memory", default="ideal", metavar="NAME",
                        help="ideal, dram, or dram:burst=4,latency=100 (ideal)")
    parser.add_argument("--latency", type=integer(1), default=30, metavar="N",
                        help="cycles from an address to an ideal memory's answer (30)")
    parser.add_argument("--each", action="store_true", help="a line for each head's commands")
    parser.add_argument("--svg", metavar="FILE", help="draw timeline and roofline there")
    parser.add_argument("--train", action="store_true",
                        help="a training step: a micro-batch forward and back, and an update")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--lora", type=integer(1), default=8, metavar="RANK",
                     help="with --train: rank of adapters (8)")
    how.add_argument("--full", action="store_true",
                     help="with --train: train the matrices themselves")
    parser.add_argument("--targets", default="q,k,v,output,up,down",
                        help="with --train: matrices that are trained or have adapters (all)")
    parser.add_argument("--adapters", default="merged", metavar="PLACE",
                        help=f"with --train: {', '.join(PLACES)}: where adapters are (merged)")
    parser.add_argument("--micro", type=integer(1), default=1, metavar="N",
                        help="with --train: sequences at once (1)")
    parser.add_argument("--recompute", type=integer(0), default=0, metavar="N",
                        help="with --train: keep every N-th layer's input alone (0: keep all)")
    parser.add_argument("--check", action="store_true",
                        help="compare with the generated Verilog: MODEL, or commands of every kind "
                        "at --dim or at 4, 8 and 16")
    add_quiet(parser)
    add_config_flags(parser, output=False)
    return parser


def _memory(options: argparse.Namespace) -> Memory:
    return Memory(options.latency, dram=memory_named(options.memory))


def _work(options: argparse.Namespace) -> Workload:
    if options.model is None:
        raise ValueError(f"MODEL must be one of {', '.join(MODELS)} or the path of a checkpoint")
    if options.decode and options.tokens is None:
        raise ValueError(f"decode must be less than tokens, which must be given, "
                         f"not {options.decode}")
    steps = decode_steps(options.tokens or 0, options.decode)
    return workload(config_from(options), options.model, tokens=options.tokens,
                    layers=options.layers, level=fusion_named(options.fusion), steps=steps,
                    offline=options.offline, scales=options.scales, centring=options.centring)


def _print(work: Workload, run: Run, each: bool, seconds: float) -> None:
    config, whole = run.config, report.total(work, run)
    print(f"config: fmt {config.fmt}, acc {config.acc}, dim {config.dim}, lanes {config.lanes}, "
          f"bus {8 * config.bus_bytes} bits, {run.memory}")
    print(f"work: {work.name}, {whole.commands} commands, {whole.macs} MACs; "
          f"{run.cycles} cycles modelled in {seconds:.1f} s")
    print("\n".join(report.table(report.by_command(work, run, each), run)))
    print()
    print("\n".join(report.table([*report.by_part(work, run), whole], run)))
    if run.memory.dram is not None:
        print(f"\n{report.bursts(run)}", end="")
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
    configs = [config_from(options, dim=dim) for dim in dims]
    memory = _memory(options)
    rows = []
    try:
        if work is not None:
            rows.append(measure(Accelerator(work.config), work.name, work.memory, work.address,
                                memory))
        for config in configs if work is None else ():
            rows += compare(Accelerator(config), quiet=options.quiet, behind=memory)
    except (HungError, ToolError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(rows, memory)))
    return int(not rows or any(row.fails for row in rows))


def _train(options: argparse.Namespace) -> None:
    """Print what a training step costs; ``ValueError``, ``ModelUnavailable``."""
    if options.model is None:
        raise ValueError(f"MODEL must be one of {', '.join(MODELS)} or the path of a checkpoint")
    config = replace(config_from(options), functions="training")
    targets = tuple(options.targets.split(","))
    method = WholeMatrices(targets) if options.full else LowRank(
        targets, options.lora, place=options.adapters)
    training = Training(method, batch=options.micro, recompute=options.recompute)
    work = training_work(config, options.model, training, tokens=options.tokens,
                         layers=options.layers, offline=options.offline, centring=options.centring)
    plain = inference_work(config, options.model, training, tokens=options.tokens,
                           layers=options.layers, offline=options.offline,
                           centring=options.centring)
    memory = _memory(options)
    simulate(config, [])
    with Line("cycles", quiet=options.quiet) as line:
        forward = simulate(config, plain.commands, memory=memory, address=plain.address,
                           tell=line.tell)
    lines, runs = ratios(work, forward, memory, options.quiet)
    print(f"config: fmt {config.fmt}, acc {config.acc}, dim {config.dim}, lanes {config.lanes}, "
          f"bus {8 * config.bus_bytes} bits, {memory}")
    for own, run in ((work.gradients, runs["gradients"]), (work.update, runs["update"])):
        print(f"\n{own.name}: {len(own.commands)} commands")
        rows = report.by_command(own, run, True) if options.each else report.by_part(own, run)
        print("\n".join(report.table([*rows, report.total(own, run)], run)))
    print("\n" + "\n".join(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and draw; 0 done, 1 a figure beyond its tolerance, 2 wrong arguments or no model."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.svg is not None:
            writable(parser, options.svg, "svg")
        if options.check:
            return _check(options)
        if options.train:
            _train(options)
            return 0
        work = _work(options)
        memory = _memory(options)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    simulate(work.config, [])  # compiles the model, where that is not kept from another run
    started = time.monotonic()
    try:
        with Line("cycles", quiet=options.quiet) as line:
            run = simulate(work.config, work.commands, memory=memory, address=work.address,
                           tell=line.tell)
    except ValueError as error:
        parser.error(str(error))
    _print(work, run, options.each, time.monotonic() - started)
    if options.svg is not None:
        deliver(parser, options.svg, lambda: draw(work, run), "svg")
    return 0


if __name__ == "__main__":
    sys.exit(piped(main))
