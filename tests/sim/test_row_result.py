"""Results of one item per row: what reductions leave, in memory."""

import numpy as np
import pytest

from compiler.lowering.lists import row_mean
from compiler.program.assembly.listing import disassemble
from compiler.program.builder import ProgramBuilder, read
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine


def means(config, rows, columns, transposed, *, gemm=False, seed=0):
    """The mean of each row of X, or of A·B, into M×1 or 1×M; and that in real arithmetic."""
    rng = np.random.default_rng([rows, columns, seed])
    builder = ProgramBuilder(config, BASE)
    out = builder.empty(*((1, rows) if transposed else (rows, 1)), "bf16", stride=2 * rows, skew=6)
    if gemm:
        a, b = rng.integers(-3, 4, (rows, 9)), rng.integers(-1, 2, (9, columns))
        builder.gemm(builder.constant(a), builder.constant(b), out, row_mean(columns),
                     out_transposed=transposed)
        x = a @ b
    else:
        x = rng.integers(-8, 9, (rows, columns))
        builder.vector(builder.constant(x, "bf16"), out, row_mean(columns),
                       out_transposed=transposed)
    memory, address = builder.build(seed=seed)
    case = Case(memory, address, BASE, (out,), f"means of {rows}x{columns}")
    real = x.mean(axis=1)
    return case, real[None] if transposed else real[:, None]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("gemm", [False, True])
def test_means_of_rows_on_rtl(gemm, transposed):
    machine = small_accelerator("posit8")
    compared = 0
    for seed, (rows, columns) in enumerate([(1, 1), (3, 64), (19, 5), (40, 7)]):
        case, real = means(machine.config, rows, columns, transposed, gemm=gemm, seed=seed)
        profile = ("ideal", "heavy", "bursty", "light")[seed]
        compared += compare(machine, case, profile, seed)
        image = case.memory.copy()
        assert Machine(machine.config).run(image, case.address, BASE).error is None
        found = read(image, case.outputs[0], BASE)
        assert np.abs(found - real).max() <= np.abs(real).max() * 2.0 ** -8
    assert compared == 2 * (1 + 3 + 19 + 40)


def test_a_row_that_does_not_stay_on_chip_is_refused():
    with pytest.raises(ValueError, match="a row that is kept on chip must have at most 64 columns"):
        means(small_accelerator("posit8").config, 2, 65, False)


def test_disassembly():
    case, _ = means(small_accelerator("posit8").config, 3, 5, True)
    line = disassemble(case.memory, case.address, BASE)[1]
    assert "→ Cᵀ.bf16@" in line and ", row result, IMM0 0, " in line
    assert line.endswith(": x mean sum→R0; x × IMM0 + R0 →MEMORY")
