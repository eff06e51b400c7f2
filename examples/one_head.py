"""One attention head: lower a layer's head to a program, look at it, run it on the Verilog.

    python examples/one_head.py [--tokens 16]

Three views of one result: the Verilog, the machine model, and arithmetic called without a program.
"""

import argparse
import sys

from compiler.checkpoints import small
from compiler.lowering.heads import lower
from compiler.program.assembly.listing import disassemble
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import compare
from sim.verify.heads import expected
from sim.verify.runner import RunError, on_machine, on_rtl


def main() -> int:
    parser = argparse.ArgumentParser(description="An attention head on model and RTL.")
    parser.add_argument("--tokens", type=int, default=8)
    options = parser.parse_args()

    config = AcceleratorConfig("posit8", dim=4, lanes=4)
    layer = small.load(options.tokens)
    program = lower(config, layer, [0])
    print(f"{layer.name}, head 0, {options.tokens} tokens, {program.macs} MACs")
    print("\n".join(disassemble(program.memory, program.address)))

    try:
        model, rtl = on_machine(program.image, config), on_rtl(program.image, config)
    except RunError as error:
        print(f"stopped: {error}")
        return 1
    by_arithmetic = compare(program, model, expected(config, layer, [0]))
    by_model = compare(program, rtl)
    for name, count in by_model.compared.items():
        print(f"{name:3} {count:5} bytes: {by_model.differing[name]} differ between RTL and model, "
              f"{by_arithmetic.differing[name]} between model and arithmetic")
    mismatches = by_model.mismatches + by_arithmetic.mismatches
    print(f"RTL: {rtl.cycles} cycles; bytes compared: {by_model.total + by_arithmetic.total}, "
          f"mismatches: {mismatches}")
    return int(mismatches > 0 or not by_model.total)


if __name__ == "__main__":
    sys.exit(main())
