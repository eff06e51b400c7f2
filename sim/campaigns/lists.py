"""Random lists of vector instructions behind a GEMM or on a stored X."""

from dataclasses import replace

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand, Post, Reduce, largest_members
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case

__all__ = ["random_list", "random_list_case"]

_SHORT = 0.2  # part of the lists that read no row register, so that they need not be written


def random_instruction(config: AcceleratorConfig, rng: np.random.Generator, last: bool,
                       registers: bool = True) -> Instruction:
    """Any instruction with at most one stage on Y; the last one of a list stores."""
    free = (Operand.NONE, Operand.NONE, Operand.IMM0, Operand.IMM1)
    free += (Operand.R0, Operand.R1) if registers else ()
    stages = dict.fromkeys(("multiply", "add", "scale"), Operand.NONE)
    last_of = largest_members(config)
    stages = {name: Operand(rng.choice([*free, *range(Operand.SELF, last_of[name] + 1)]))
              for name in stages}
    if rng.random() < 0.5:
        stages[str(rng.choice(list(stages)))] = Operand.Y
    destinations = (Destination.NONE, Destination.BUFFER, Destination.MEMORY)
    return Instruction(
        **stages, subtract=bool(rng.integers(2)), relu=bool(rng.random() < 0.3),
        function=Function(rng.choice((0, rng.integers(last_of["function"] + 1)))),
        y=int(rng.integers(2)),
        reduce=Reduce(rng.integers(3)), reduce_to=int(rng.integers(2)),
        post=Post(rng.integers(last_of["post"] + 1)),
        destination=Destination.MEMORY if last else Destination(rng.choice(destinations)))


def random_list(config: AcceleratorConfig, rng: np.random.Generator) -> list[Instruction]:
    """One to eight instructions; both row registers are written before anything reads them.

    The last one stores, or one before it does.
    """
    if rng.random() < _SHORT:
        count = int(rng.integers(1, 4))
        return [random_instruction(config, rng, index == count - 1, False)
                for index in range(count)]
    start = [Instruction(reduce=Reduce.MAX, reduce_to=register) for register in (0, 1)]
    count = int(rng.integers(1, 7))
    steps = start + [random_instruction(config, rng, index == count - 1)
                     for index in range(count)]
    if any(step.destination == Destination.MEMORY for step in steps[:-1]) and rng.random() < 0.3:
        kept = Destination(rng.choice((Destination.NONE, Destination.BUFFER)))
        steps[-1] = replace(steps[-1], destination=kept)
    return steps


def random_list_case(config: AcceleratorConfig, rng: np.random.Generator) -> Case:
    """One GEMM or VECTOR of up to 19 rows and columns with a random list."""
    builder = ProgramBuilder(config, BASE)

    def tensor(rows: int, columns: int, wide: bool = True) -> Tensor:
        stored = str(rng.choice([e.name for e in config.format.encodings]))
        encoding = "bf16" if wide and rng.random() < 0.4 else stored
        values = rng.standard_normal((rows, columns)) * 2.0 ** rng.integers(-3, 4)
        return builder.constant(values, encoding, skew=2 * int(rng.integers(8)))

    m, k, n = (int(size) for size in rng.integers(1, 20, 3))
    turned = bool(rng.random() < 0.4)
    steps = random_list(config, rng)
    single = bool(rng.random() < 0.25)
    if turned or single:  # what goes to memory then is not reduced
        steps = [replace(step, reduce=Reduce.NONE) if step.destination == Destination.MEMORY
                 else step for step in steps]
    encoding = str(rng.choice(["bf16", config.format.encodings[-1].name]))
    stored = (m, 1 if single else n)
    out = builder.empty(*(stored[::-1] if turned else stored), encoding)
    epilogue = Epilogue(scale=0.75, bias=tensor(1 if rng.random() < 0.5 else m, n), imm1=-1.5,
                        y1=tensor(1 if rng.random() < 0.5 else m, n), inverse_n=1 / n,
                        epsilon=0.125, row_result=single, instructions=steps)
    if rng.random() < 0.5:
        row_max = bool(rng.random() < 0.5)
        if row_max:
            skipped = min(int(rng.integers(2)), len(steps) - 1)
            epilogue = replace(epilogue, instructions=steps[skipped:])
        builder.gemm(tensor(m, k, False), tensor(k, n, False), out, epilogue,
                     out_transposed=turned, row_max=row_max)
    elif rng.random() < 0.3:
        x = tensor(k, n)
        builder.gather(x, builder.indices(rng.integers(0, k, m)), out, epilogue,
                       out_transposed=turned)
    else:
        builder.vector(tensor(m, n), out, epilogue, out_transposed=turned)
    memory, address = builder.build(seed=int(rng.integers(1 << 31)))
    return Case(memory, address, BASE, (out,), f"{m}x{k}x{n} {epilogue.instructions}")
