"""One GEMM: build a program, run it on the machine model and on the Verilog, compare every byte.

    python examples/one_gemm.py [--fmt fp8]
"""

import argparse
import sys

import numpy as np

from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from hdl.spec.config import AcceleratorConfig
from sim.harness.accelerator import Accelerator
from sim.model.machine import Machine

M, K, N = 21, 19, 14  # no multiples of the array's 4: the hardware masks the edges


def main() -> int:
    parser = argparse.ArgumentParser(description="One GEMM with an epilogue, on model and RTL.")
    parser.add_argument("--fmt", default="posit8")
    config = AcceleratorConfig(parser.parse_args().fmt, dim=4, lanes=4)

    # C = ReLU(0.25 · A·B + bias). Constants are rounded to the format; results have no content yet.
    rng = np.random.default_rng(1)
    a, b, bias = (rng.standard_normal(shape) for shape in ((M, K), (K, N), (1, N)))
    builder = ProgramBuilder(config)
    out = builder.empty(M, N)
    builder.gemm(builder.constant(a), builder.constant(b), out,
                 Epilogue(scale=0.25, bias=builder.constant(bias, "bf16"), relu=True))
    memory, address = builder.build()
    print(f"{config.fmt}: {M}×{K} · {K}×{N}, program at {address:#x}, {memory.size} bytes")

    modelled, simulated = memory.copy(), memory.copy()
    outcome = Machine(config).run(modelled, address)
    result = Accelerator(config).run(simulated, address)
    if outcome.error is not None or result.error is not None or result.violations:
        print(f"stopped: model {outcome.error}, RTL {result.error}, {result.violations}")
        return 1
    differing = int(np.count_nonzero(modelled != simulated))
    real = np.maximum(0.25 * (a @ b) + bias, 0)
    error = np.abs(read(simulated, out) - real).max()
    print(f"RTL: {result.counters['active']} cycles, largest error against float64 {error:.3f}")
    print(f"bytes compared: {memory.size}, mismatches: {differing}")
    return int(differing > 0 or not np.count_nonzero(simulated != memory))


if __name__ == "__main__":
    sys.exit(main())
