"""Random shapes through AXI: ``python -m sim.shapes --dim 4 --count 2000``.

GEMMs of 1 to 3·dim + 1 in each of M, K, N, with any operand transposed, at odd addresses and
strides, with epilogues and softmax, wide and narrow results, in programs of several commands that
overlap, on builds with tiny and with normal buffers, under every stall profile; on normal buffers
some programs of GEMMs beyond a weight panel and of dense rows too. Every byte of every image is
compared with the machine model, and how often each was written. Exit code 1 when something differs
or a class of shapes is missing, 2 for a wrong argument.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context
from typing import Any

import numpy as np

from compiler.program.instruction import Instruction
from compiler.program.records import commands, instructions
from gen.cli import (
    Parser,
    add_config_flags,
    add_jobs,
    add_names,
    add_quiet,
    add_seed,
    counted,
    integer,
)
from hdl.spec.commands import INSTRUCTION, TENSORS, Function, Opcode, Reduce, Role, roles
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS
from hdl.spec.panels import LEAST_TILES
from hdl.spec.timing import MERGED_LOG2
from sim.campaigns.cells import cells, sample
from sim.campaigns.programs import Case, long_bursts_case, random_case
from sim.campaigns.regression import TINY, compare
from sim.cycles.plan import plans
from sim.harness.accelerator import Accelerator, HungError
from sim.harness.stalls import PROFILES

__all__ = ["Tally", "builds", "classes", "main", "run"]

_MOST_ROUNDS = 4
_LONG_BURSTS = 12  # one of as many programs on normal buffers is a ``long_bursts_case``
_NARROW, _SHALLOW = "chunk narrower than a panel", "span shallower than a panel"
_SHARED = "rows of B share bursts"
_OPERANDS = [name for name in TENSORS if Role.TRANSPOSED in roles(name)]


@dataclass
class Tally:
    """What was compared; ``kinds`` counts GEMMs by the classes of ``classes``."""

    gemms: int = 0
    commands: int = 0
    programs: int = 0
    shapes: set[tuple[int, int, int]] = field(default_factory=set)
    results: int = 0
    image: int = 0
    cycles: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        self.gemms, self.commands = self.gemms + other.gemms, self.commands + other.commands
        self.programs, self.cycles = self.programs + other.programs, self.cycles + other.cycles
        self.results, self.image = self.results + other.results, self.image + other.image
        self.shapes |= other.shapes
        self.kinds += other.kinds


def builds(dim: int, fmts: Sequence[str] | None = None) -> list[AcceleratorConfig]:
    """Tiny buffers, in builds that train, and normal ones; at ``dim`` 4 all formats, beyond it two
    builds, which are large: one of them with fewer lanes than columns and every pipeline
    register."""
    tiny: dict[str, Any] = TINY | {"weight_depth": max(TINY["weight_depth"], 2 * dim), "dim": dim}
    normal = [cell.config(dim) for cell in sample(cells(dim))]
    if fmts is not None:
        return [config for fmt in fmts for config in (
            AcceleratorConfig(fmt, **tiny, functions="all" if FORMATS[fmt].integer else "training"),
            AcceleratorConfig(fmt, dim=dim))]
    tiny["functions"] = "training"
    if dim > 4:
        return [AcceleratorConfig("posit8", dim=dim),
                AcceleratorConfig("bf16", lanes=4, pe_latency=2, lane_latency=4, sum_ways=4,
                                  **tiny)]
    return [*normal, *(AcceleratorConfig(fmt, **tiny) for fmt in ("posit8", "fp8", "bf16"))]


def _transposes() -> list[str]:
    """Names of every combination of operands that a command can transpose."""
    return [_transpose(values) for values in product((0, 1), repeat=len(_OPERANDS))]


def _transpose(values: Sequence[int]) -> str:
    return " ".join(f"{name.upper()}{'ᵀ' if value else ''}"
                    for name, value in zip(_OPERANDS, values, strict=True))


def classes(configs: Sequence[AcceleratorConfig]) -> list[str]:
    """Every class of which a campaign on ``configs`` must hold at least one GEMM."""
    narrow = any(config.panel_columns > LEAST_TILES for config in configs)
    shallow = any(config.panel_line > config.input_depth // config.row_depth for config in configs)
    return [*_transposes(), *(f"profile {name}" for name in PROFILES),
            "plain", "epilogue", "softmax", "scalar", "amax", "C narrow", "C wide",
            "odd address", "odd stride",
            "tiny buffers", "normal buffers", _SHARED, *[_NARROW] * narrow, *[_SHALLOW] * shallow]


def _shares(config: AcceleratorConfig, fields: dict[str, int], plan: np.void) -> bool:
    """Whether rows of B follow one another in whole beats, each in one panel."""
    line, most = ((plan["k"], min(plan["k_panel"], plan["k_span"])) if fields["b_transposed"] else
                  (plan["n"], min(plan["n_panel"], plan["chunk"])))
    size = line * config.format.storage_bytes
    return (line <= most and fields["b_stride"] == size
            and fields["b_address"] % config.bus_bytes == 0
            and size in [config.bus_bytes << log2 for log2 in range(MERGED_LOG2 + 1)])


def _kinds(config: AcceleratorConfig, fields: dict[str, int]) -> Iterator[str]:
    """The classes of a GEMM, from its command."""
    plan, = plans(config, [fields])
    if plan["chunk"] < min(plan["n"], plan["n_panel"]):
        yield _NARROW
    if plan["k_span"] < min(plan["k"], plan["k_panel"]):
        yield _SHALLOW
    if _shares(config, fields, plan):
        yield _SHARED
    yield _transpose([fields[roles(name)[Role.TRANSPOSED].name] for name in _OPERANDS])
    steps = [Instruction.from_word(word & ~(1 << INSTRUCTION["last"].low))
             for word in instructions(fields["instructions"])]
    if any(step.function == Function.EXP for step in steps):
        yield "softmax"
    else:
        bare = all(not (step.multiply or step.add or step.relu) for step in steps)
        yield "plain" if bare else "epilogue"
    if fields["imm0_scalar"]:
        yield "scalar"
    if any(step.reduce == Reduce.AMAX for step in steps):
        yield "amax"
    yield "C wide" if fields["c_wide"] else "C narrow"
    if any(fields[f"{name}_address"] & 1 for name in _OPERANDS):
        yield "odd address"
    if any(fields[f"{name}_stride"] & 1 for name in _OPERANDS):
        yield "odd stride"


def _count(tally: Tally, config: AcceleratorConfig, case: Case, *kinds: str) -> None:
    """``kinds``: classes of all its GEMMs."""
    tally.programs += 1
    tally.image += case.memory.size
    for _, fields in commands(case.memory, case.address, case.base):
        tally.commands += 1
        if fields["opcode"] == Opcode.GEMM:
            tally.gemms += 1
            tally.shapes.add((fields["m"], fields["k"], fields["n"]))
            tally.kinds.update([*_kinds(config, fields), *kinds])


def run(machine: Accelerator, count: int, seed: int, observe=None) -> Tally:
    """At least ``count`` GEMMs on ``machine``; ``AssertionError`` on the first difference.

    ``observe(case)`` is called after each program that was right.
    """
    config, tally = machine.config, Tally()
    rng = np.random.default_rng(seed)
    buffers = "tiny" if config.input_depth == TINY["input_depth"] else "normal"
    while tally.gemms < count:
        index = tally.programs
        if buffers == "normal" and index % _LONG_BURSTS == _LONG_BURSTS // 2:
            case = long_bursts_case(config, rng)
        else:
            case = random_case(config, rng, largest=3 * config.dim + 1,
                               rounds=int(rng.integers(1, _MOST_ROUNDS + 1)))
        profile = list(PROFILES)[index % len(PROFILES)]
        tally.results += compare(machine, case, profile, index)
        _count(tally, config, case, f"profile {profile}", f"{buffers} buffers")
        if observe is not None:
            observe(case)
    return tally


class Flipped:
    """A machine whose results have one wrong bit in program ``at``: the negative control."""

    def __init__(self, machine: Accelerator, at: int) -> None:
        self.config, self._machine, self._left = machine.config, machine, at

    def run(self, memory: np.ndarray, *arguments, **options):
        result = self._machine.run(memory, *arguments, **options)
        if not self._left:
            memory[np.flatnonzero(result.written)[-1]] ^= 1
        self._left -= 1
        return result


def _share(config: AcceleratorConfig, count: int, seed: int, flip: bool) -> Tally | str:
    """One build's part in a process of its own: what it counted, or what differed."""
    machine = Accelerator(config)
    try:
        judged: Any = Flipped(machine, count // 10) if flip else machine
        return run(judged, count, seed)
    except (AssertionError, HungError) as error:
        return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.shapes", description=__doc__.split(":")[0] + ".")
    add_config_flags(parser, output=False, only=("dim",), dim=4)
    parser.add_argument("--count", type=integer(1), default=2000, metavar="N",
                        help="GEMMs in all, at least (2000)")
    add_names(parser, "--fmt", tuple(FORMATS), None, "builds of these alone")
    add_seed(parser, "of the random programs")
    add_jobs(parser)
    add_quiet(parser)
    parser.add_argument("--flip", action="store_true",
                        help="flip one bit of a result on each build: the campaign must fail")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all equal and every class met, 1: a difference or a class missing, 2: wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        configs = builds(options.dim, options.fmt)
    except ValueError as error:
        parser.error(str(error))
    started, total, failed = time.monotonic(), Tally(), 0
    count = -(-options.count // len(configs))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(_share, config, count, options.seed + index, options.flip)
                   for index, config in enumerate(configs)]
        for config, future in counted("builds", zip(configs, pending, strict=True), len(pending),
                                      quiet=options.quiet):
            found = future.result()
            told = found
            if isinstance(found, Tally):
                told = (f"{found.gemms} GEMMs in {found.programs} programs, "
                        f"{found.results} bytes of results, {found.image} of memory compared")
                total.add(found)
            failed += isinstance(found, str)
            print(f"{'FAILED' if isinstance(found, str) else 'passed'}  {config.fmt:9} "
                  f"{config.acc:5} {config.softmax:14} acc_depth {config.acc_depth}: {told}",
                  flush=True)
    wanted = classes(configs)
    for name in wanted:
        print(f"{total.kinds[name]:6}  {name}")
    missing = [name for name in wanted if not total.kinds[name]]
    for name in missing:
        print(f"FAILED  no GEMM of class {name!r}")
    print(f"dim {options.dim}: {total.gemms} GEMMs of {len(total.shapes)} shapes in "
          f"{total.programs} programs of {total.commands} commands, {total.results} bytes of "
          f"results and {total.image} of memory compared, {failed} builds failed, "
          f"{time.monotonic() - started:.0f} s")
    return 1 if failed or missing or total.gemms < options.count else 0
