"""A real attention head on the accelerator: ``python -m sim.demo --fmt posit8``.

Layer 0 of MiniLM-L6 on a real sentence, quantised to the format, as one program: Q, K and V
projections, softmax(Q Kᵀ / √d), P V. ``--on rtl`` runs the generated Verilog through its AXI ports
on Verilator and compares it with the machine model; ``--on machine`` runs the machine model and
compares it with the arithmetic models called without a program. Exit code 1 when a byte differs.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from compiler.checkpoints import minilm, small
from compiler.checkpoints.heads import AttentionHeads
from compiler.checkpoints.packages import ModelUnavailable
from compiler.lowering.heads import lower
from compiler.program.assembly.listing import disassemble
from compiler.program.builder import read
from compiler.program.lowered import LoweredProgram
from gen.cli import (
    Parser,
    add_config_flags,
    add_offline,
    add_on,
    add_quiet,
    add_seed,
    config_from,
    integer,
    piped,
)
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import Comparison, compare
from sim.verify.heads import expected
from sim.verify.report import cosine
from sim.verify.runner import ImageRun, RunError, on_machine, on_rtl

__all__ = ["main"]


def _errors(layer: AttentionHeads, heads: Sequence[int], program: LoweredProgram,
            memory: np.ndarray) -> tuple[float, float, float]:
    """Largest and mean absolute error of O against fp32, and the cosine between the two."""
    found = read(memory, program.results["O"], program.base)
    wanted = np.concatenate([layer.head(h).o for h in heads], axis=1).astype(np.float64)
    error = np.abs(found - wanted)
    return float(error.max()), float(error.mean()), cosine(found, wanted)


def _report(config: AcceleratorConfig, layer: AttentionHeads, heads: Sequence[int],
            program: LoweredProgram, run: ImageRun, result: Comparison) -> None:
    """Print what ran, how each tensor compares, cycles and accuracy; the verdict is last."""
    named = f"head {heads[0]}" if len(heads) == 1 else f"heads {heads[0]}-{heads[-1]}"
    print(f"config: fmt {config.fmt}, acc {config.acc}, softmax {config.softmax}, "
          f"dim {config.dim}, lanes {config.lanes}, on the {run.where}")
    print(f"work: {layer.name}, {named}, {layer.tokens} tokens, {program.macs} MACs")
    for name, compared in result.compared.items():
        rows, columns = program.results[name].shape
        print(f"  {name:4} {rows:4} × {columns:<4} {compared:8} bytes, "
              f"{result.differing[name]} differ")
    print(f"  bytes written outside the results: {result.stray}")
    if run.cycles:
        share = program.macs / (config.dim ** 2 * run.cycles)
        print(f"cycles: {run.cycles}, utilisation {share:.1%} of {config.dim ** 2} MACs a cycle")
    largest, mean, near = _errors(layer, heads, program, run.memory)
    print(f"error of O against fp32 ({config.fmt}, softmax {config.softmax}): "
          f"max {largest:.4f}, mean {mean:.5f}, cosine {near:.5f}")
    print(f"bytes compared: {result.total}, mismatches: {result.mismatches}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.demo", description=__doc__.split(":")[0] + ".")
    add_config_flags(parser, output=False)
    parser.add_argument("--tokens", type=integer(1), default=32, metavar="N",
                        help="length of the sequence (32)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--head", type=integer(0), default=0, metavar="N",
                       help="the head that is computed (0)")
    which.add_argument("--all-heads", action="store_true", help="every head of the layer")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--small", action="store_true",
                        help="the project's own small layer; needs no network")
    add_offline(source, "MiniLM-L6")
    add_on(parser, "rtl", rtl="the generated Verilog, against the machine model",
           machine="the machine model, against arithmetic without a program")
    parser.add_argument("--list", action="store_true",
                        help="print the program, one line per command, before it runs")
    add_quiet(parser)
    add_seed(parser, "fills unused memory and, with --small, draws the sequence")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 all bytes equal, 1 a difference, 2 wrong arguments or no model."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = config_from(options)
        layer = (small.load(options.tokens, options.seed) if options.small
                 else minilm.load(options.tokens, offline=options.offline))
        heads = range(layer.heads) if options.all_heads else range(options.head, options.head + 1)
        program = lower(config, layer, heads, seed=options.seed)
    except ValueError as error:
        parser.error(str(error))
    except ModelUnavailable as error:
        parser.error(f"{error}; --small needs no network")
    if options.list:
        print("\n".join(disassemble(program.memory, program.address, program.base)))
    rtl = options.on == "rtl"
    try:
        run = (on_rtl(program.image, config, options.quiet, seed=options.seed) if rtl
               else on_machine(program.image, config, options.quiet))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if rtl:
        print(f"built in {run.built:.1f} s")
    print(f"ran in {run.seconds:.1f} s")
    comparison = compare(program, run, None if rtl else expected(config, layer, heads))
    _report(config, layer, heads, program, run, comparison)
    return 1 if comparison.mismatches else 0


if __name__ == "__main__":
    sys.exit(piped(main))
