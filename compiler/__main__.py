"""Lower a transformer to one program: ``python -m compiler minilm --fmt posit8 -o FILE``.

Without running anything: what it is made of, how many commands, how much memory. ``-o`` writes
program and memory as an image for ``python -m sim.image``; ``--list`` prints the ops of the model
as traced, the ops that share commands once they are fused, or the commands, which ``python -m
sim.assembly assemble`` reads back. Exit code 2 for wrong arguments and models.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from compiler.checkpoints.packages import ModelUnavailable
from compiler.lowering.fuse import fuse
from compiler.lowering.lower import trace
from compiler.lowering.ops import OpList
from compiler.lowering.scaling import Scaling
from compiler.memory import against_fp32
from compiler.program.assembly.listing import disassemble
from compiler.program.lowered import LoweredProgram
from compiler.program.records import commands
from compiler.work import NO_MEMORY, Work, add_flags, opened, prepare, summary
from gen.cli import Line, Parser, add_quiet, piped, save, writable
from hdl.spec.commands import Opcode

__all__ = ["main"]

LISTS = ("trace", "ops", "commands")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m compiler", description=__doc__.split(":")[0] + ".")
    add_flags(parser)
    parser.add_argument("--list", choices=LISTS, metavar="WHAT", help="print ops as traced "
                        "(trace), as fused (ops), or the commands, and no summary")
    parser.add_argument("-o", "--output", metavar="FILE",
                        help="write program and memory there, for python -m sim.image")
    parser.add_argument("--against-fp32", action="store_true",
                        help="tell which share of the memory the same model takes in fp32")
    add_quiet(parser)
    return parser


def _ops(work: Work) -> tuple[OpList, OpList]:
    """As traced and as fused."""
    traced = trace(work.model, work.inputs, work.layers, work.step_lengths)
    scaled = Scaling(work.scales, work.config, work.level)(traced)
    return traced, fuse(scaled, work.config, work.level)


def _listed(work: Work, what: str) -> list[str]:
    if what == "commands":
        program = work.program
        return list(disassemble(program.memory, program.address, program.base))
    return _ops(work)[LISTS.index(what)].lines()


def _counted(program: LoweredProgram) -> str:
    """How many commands there are, by opcode."""
    counts = Counter(Opcode(fields["opcode"]).name for _, fields in commands(
        program.memory, program.address, program.base))
    return f"{sum(counts.values())} commands: " + ", ".join(
        f"{counts[opcode.name]} {opcode.name}" for opcode in Opcode if counts[opcode.name])


def _memory(program: LoweredProgram) -> str:
    """The image's bytes by what they are for; gaps belong to none of it."""
    sizes = Counter[str]()
    for tensor in {tensor.address: tensor for tensor in program.image.tensors}.values():
        sizes["results" if tensor.name in program.results else
              "temporary values" if tensor.name == "temporary values" else
              "constants"] += tensor.span
    sizes["program"] = program.base + program.memory.size - program.address
    return f"{program.memory.size} bytes: " + ", ".join(
        f"{sizes[name]} {name}" for name in ("constants", "results", "temporary values", "program"))


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 for wrong arguments or no model."""
    parser = _parser()
    options = parser.parse_args(arguments)
    started = time.monotonic()
    if options.output is not None:
        writable(parser, options.output)
    try:
        with Line("lowered", quiet=options.quiet) as line:
            work = prepare(options, on=opened(options, line.tell))
        seconds = time.monotonic() - started
        if options.list is not None:
            print("\n".join(_listed(work, options.list)))
        else:
            traced, fused = _ops(work)
            against = [against_fp32(work)] if options.against_fp32 else []
            print("\n".join([*summary(work), f"ops: {len(traced.ops)} traced, {len(fused.ops)} "
                             "fused", _counted(work.program), _memory(work.program),
                             *against, f"lowered in {seconds:.1f} s"]))
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    except MemoryError:
        parser.error(NO_MEMORY)
    if options.output is not None:
        save(parser, options.output, work.program.image.save)
        if options.list is None:
            print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(piped(main))
