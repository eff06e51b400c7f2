"""Random instruction lists, after a GEMM or on a stored X."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from hdl.spec.commands import (
    COMMAND,
    INSTRUCTION,
    STAGES,
    CommandField,
    Destination,
    Opcode,
    Operand,
    Post,
    Reduce,
    Role,
    Trait,
    available,
    meanings,
    means,
    members,
    traits,
)
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case, store_register

__all__ = ["random_list", "random_list_case"]

_SHORT = 0.2  # part of the lists that read no row register, so that they need not be written
_FLAGS = [COMMAND[field.name] for field in fields(Epilogue) if field.name in COMMAND
          and COMMAND[field.name].bits == 1]
"""Flags of a command that an epilogue has by the name of the field."""


def random_instruction(config: AcceleratorConfig, rng: np.random.Generator, last: bool,
                       registers: bool = True) -> Instruction:
    """Any instruction with at most one stage on Y; the last one of a list stores."""
    values: dict[str, Any] = {}
    for name, field in INSTRUCTION.items():
        if field.kind is not None:
            known = [member for member in members(name, config) if not member.meaning.once
                     and (registers or member.meaning.register is None)]
            # Stages stay off more often, functions every other time.
            more = {"function": len(known)}.get(name, int(name in STAGES))
            values[name] = field.kind(int(rng.choice([*[0] * more, *known])))
        elif name != "last" and available(field.needs, config):
            values[name] = int(rng.random() < 0.4)
    if rng.random() < 0.5:
        values[str(rng.choice(STAGES))] = Operand.Y
    if "rows" in values:
        values["rows"] = int(values["destination"] == Destination.SECOND and not last)
    if values["reduce"] == Reduce.AMAX:
        values |= {"reduce_to": 0, "post": Post.NONE}
    if last:
        values["destination"] = Destination.MEMORY
    return _permitted(Instruction(**values), ())


def _permitted(instruction: Instruction, flags: Sequence[CommandField]) -> Instruction:
    """``instruction`` without what ``flags`` of its command, or flags of its own, bar."""
    own = [field for name, field in INSTRUCTION.items()
           if field.bars and instruction.values.get(name)]
    every: list[Any] = [*flags, *own]
    for field in every:
        if field.bars and field.bars in traits(instruction.values):
            # Every bar is on a reduction, together with whatever else.
            instruction = replace(instruction, reduce=Reduce.NONE)
    return instruction


def random_list(config: AcceleratorConfig, rng: np.random.Generator) -> list[Instruction]:
    """One to eight instructions; both row registers are written before anything reads them.

    The last one stores, or one before it does.
    """
    if rng.random() < _SHORT:
        count = int(rng.integers(1, 4))
        return _compatible([random_instruction(config, rng, index == count - 1, False)
                            for index in range(count)])
    start = [Instruction(reduce=Reduce.MAX, reduce_to=register) for register in (0, 1)]
    count = int(rng.integers(1, 7))
    steps = start + [random_instruction(config, rng, index == count - 1)
                     for index in range(count)]
    if any(Trait.STORES in traits(step.values) for step in steps[:-1]) and rng.random() < 0.3:
        kept = Destination(rng.choice((Destination.NONE, Destination.BUFFER)))
        steps[-1] = replace(steps[-1], destination=kept)
    return _compatible(steps)


def _compatible(steps: list[Instruction]) -> list[Instruction]:
    """``steps`` without reductions that a value of another one bars."""
    barred = [meaning.bars for step in steps for meaning in meanings(step.values).values()
              if meaning.bars]
    return [replace(step, reduce=Reduce.NONE)
            if any(bars in traits(step.values) for bars in barred) else step for step in steps]


def _factors(builder: ProgramBuilder, rng: np.random.Generator, outputs: list[Tensor]
             ) -> list[float | Scalar]:
    """What IMM0 and IMM1 are: constants or, where the build takes them, scalars, which a command
    has written at times."""
    factors: list[float | Scalar] = [0.75, -1.5]
    if not builder.config.trains:
        return factors
    items = int(rng.integers(1, 40))
    table = builder.constant(rng.standard_normal((1, items)), "bf16",
                             skew=2 * int(rng.integers(8)))
    if rng.random() < 0.3:
        outputs.append(builder.empty(1, items, "bf16", skew=2 * int(rng.integers(8))))
        builder.vector(table, outputs[-1])
        table = outputs[-1]
    return [Scalar(table, int(rng.integers(items))) if rng.random() < 0.5 else factor
            for factor in factors]


def _fill_register(builder: ProgramBuilder, x: Tensor, outputs: list[Tensor]) -> None:
    """Bring the largest magnitude of ``x`` into register A."""
    outputs.append(builder.empty(*x.shape))
    builder.vector(x, outputs[-1], Epilogue(amax=True))


def random_list_case(config: AcceleratorConfig, rng: np.random.Generator) -> Case:
    """One GEMM or VECTOR of up to 19 rows and columns with a random list; in a build that trains
    among commands that write its scalars, fill register A before it and store that after it."""
    builder = ProgramBuilder(config, BASE)
    outputs: list[Tensor] = []

    def tensor(rows: int, columns: int, wide: bool = True) -> Tensor:
        stored = str(rng.choice([e.name for e in config.format.encodings]))
        encoding = "bf16" if wide and rng.random() < 0.4 else stored
        values = rng.standard_normal((rows, columns)) * 2.0 ** rng.integers(-3, 4)
        return builder.constant(values, encoding, skew=2 * int(rng.integers(8)))

    def itemwise(name: str) -> Tensor:
        """An operand of the lanes: of the block's shape or one row, of one column where a flag
        says so."""
        rows = 1 if rng.random() < 0.5 else m
        columns = 1 if any(flag.tensor == name and flag.role is Role.COLUMN
                           for flag in flags) else n
        if any(step.y_second and f"y{step.y}" == name for step in steps):
            return tensor(*((2, columns) if rows == 1 else (m, 2 * columns)))
        return tensor(rows, columns)

    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    transposed, gemm = bool(rng.random() < 0.4), bool(rng.random() < 0.5)
    opcode = Opcode.GEMM if gemm else Opcode.VECTOR
    flags: list[Any] = [flag for flag in _FLAGS
                        if means(flag, opcode, config) and rng.random() < 0.25]
    barring = [*flags, COMMAND["c_transposed"]] if transposed else flags
    steps = [_permitted(step, barring) for step in random_list(config, rng)]
    encoding = str(rng.choice(["bf16", config.format.encodings[-1].name]))
    stored = (m, 1 if any(flag.tensor == "c" and flag.role is Role.COLUMN
                          for flag in flags) else n)
    out = builder.empty(*(stored[::-1] if transposed else stored), encoding)
    given: dict[str, Any] = {flag.name: True for flag in flags}
    scale, imm1 = _factors(builder, rng, outputs)
    items = None
    if any(Trait.ITEMS in traits(step.values) for step in steps):
        items = builder.empty(m, 1, "bf16", skew=2 * int(rng.integers(8)))
        outputs.append(items)
    if config.trains and rng.random() < 0.5:
        rows, columns = (int(size) for size in rng.integers(1, 12, 2))
        _fill_register(builder, tensor(rows, columns), outputs)
    epilogue = Epilogue(scale=scale, bias=itemwise("y0"), imm1=imm1, y1=itemwise("y1"),
                        items=items, inverse_n=1 / n, epsilon=0.125, instructions=steps, **given)
    if gemm:
        row_max = bool(rng.random() < 0.5)
        if row_max:
            skipped = min(int(rng.integers(2)), len(steps) - 1)
            if steps[0].y_second or steps[0].rows:  # Y or D was made for it
                skipped = 0
            epilogue = replace(epilogue, instructions=steps[skipped:])
        builder.gemm(tensor(m, k, False), tensor(k, n, False), out, epilogue,
                     out_transposed=transposed, row_max=row_max)
    elif rng.random() < 0.3:
        x = tensor(k, n)
        builder.gather(x, builder.indices(rng.integers(0, k, m)), out, epilogue,
                       out_transposed=transposed)
    else:
        builder.vector(tensor(m, n), out, epilogue, out_transposed=transposed)
    if config.trains:
        store_register(builder, outputs)
    memory, address = builder.build(seed=int(rng.integers(1 << 31)))
    return Case(memory, address, BASE, (out, *outputs), f"{m}x{k}x{n} {epilogue.instructions}")
