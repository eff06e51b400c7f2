"""Blocks used alone: two decoders and a multiplier in a Verilog test bench of one's own.

    python examples/block_alone/run.py [--keep FOLDER]

Generates the blocks with ``python -m gen.block``, writes what all 65,536 pairs of posit8 must give,
as exact rationals say, and runs ``testbench.v`` on Icarus, or on Verilator where that is missing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from gen.block import generate_block
from hdl.spec.config import AcceleratorConfig
from sim.harness.verilate import verilator_shim
from sim.model import codec

BENCH = Path(__file__).with_name("testbench.v")
UNIT = 24
# Verilator's makefiles name the compilers of the machine that its wheel was built on.
MAKEFLAGS = (f"CXX=g++ LINK=g++ AR=ar PYTHON3={sys.executable} PERL=perl OPT_FAST=-O1 "
             "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=c++20")


def words(config: AcceleratorConfig) -> list[str]:
    """What each pair of codes must give, as ``testbench.v`` reads it."""
    codes = np.arange(256, dtype=np.uint8)
    values = codec.decode(config.format.encodings[0], codes).tolist()
    lines = []
    for a, left in enumerate(values):
        for b, right in enumerate(values):
            nar = left != left or right != right
            product = Fraction(0) if nar else Fraction(left) * Fraction(right)
            units = abs(product) * 2 ** UNIT
            if units.denominator != 1:
                raise ValueError(f"product of {a:#x} and {b:#x} must be a multiple of 2^-{UNIT}")
            word = a
            for value, bits in ((b, 8), (nar, 1), (not nar and not product, 1), (product < 0, 1),
                                (units.numerator, 64)):
                word = word << bits | int(value)
            lines.append(f"{word:021x}")
    return lines


def simulate(folder: Path, sources: list[Path]) -> str:
    """What the test bench prints."""
    if shutil.which("iverilog"):
        build = ["iverilog", "-g2005", "-o", "bench", *sources]
        command, environment = ["vvp", "bench"], dict(os.environ)
    else:
        build = ["verilator", "--binary", "--timing", "-Wno-fatal", "-Wno-lint", "--top-module",
                 "testbench", "--Mdir", "obj", "-o", "bench", *sources]
        command = [str(folder / "obj/bench")]
        environment = os.environ | {"MAKEFLAGS": MAKEFLAGS,
                                    "PATH": f"{verilator_shim()}:{os.environ['PATH']}"}
    subprocess.run([str(word) for word in build], cwd=folder, env=environment, check=True,
                   stdout=subprocess.DEVNULL)
    return subprocess.run(command, cwd=folder, env=environment, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def run(folder: Path) -> int:
    config = AcceleratorConfig("posit8", dim=4, lanes=4)
    sources = [BENCH]
    for block in ("decoder", "multiplier"):
        # A prefix of its own for the modules inside: two blocks may share a name there.
        (folder / f"{block}.v").write_text(generate_block(block, config, f"{block}_"))
        sources.append(folder / f"{block}.v")
    (folder / "pairs.hex").write_text("\n".join(words(config)) + "\n")
    output = simulate(folder, sources)
    print("\n".join(line for line in output.splitlines() if not line.startswith("- ")))
    counts = re.search(r"pairs compared: (\d+), .*mismatches: (\d+)", output)
    return int(counts is None or int(counts[1]) == 0 or int(counts[2]) > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Decoders and a multiplier in a test bench.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write everything there")
    keep = parser.parse_args().keep
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return run(keep.resolve())
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
