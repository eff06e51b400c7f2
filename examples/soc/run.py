"""Two accelerators in a system that LiteX makes, and a RISC-V that drives both at once.

    python examples/soc/run.py [-o FOLDER]

Packages a posit8 and an fp8 build, lowers an attention head to a program for each, compiles
firmware with the packages' C drivers, simulates the system, and compares all that the processor
finds in memory with the machine model.
"""

import argparse
import ctypes
import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

import numpy as np
from soc import (  # type: ignore[import-not-found]
    MEMORY,
    ROM,
    Written,
    write_soc,
)

from compiler.checkpoints import small
from compiler.lowering.heads import lower
from compiler.program.image import ProgramImage
from gen.cli.folders import build_folder
from gen.package.__main__ import package
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from sim.c_image import c_image
from sim.harness.verilate import build_library
from sim.model.machine import Machine

HERE = Path(__file__).parent
BUILDS = {"left": AcceleratorConfig("posit8", dim=4), "right": AcceleratorConfig("fp8", dim=4)}
TOKENS, CYCLES, CONSOLE = 8, 20_000_000, 1 << 20
TARGET = ("-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+zicsr", "-mabi=ilp32")
FLAGS = ("-std=c11", "-Os", "-ffreestanding", "-nostdlib", "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-function", "-Wno-main", "-fno-sanitize=all")


def make_packages(folder: Path) -> dict[str, Path]:
    """``python -m gen.package --fmt posit8 --dim 4 --name left --prefix left_ -o FOLDER/left``,
    and the other one."""
    packages = {name: folder / name for name in BUILDS}
    for name, config in BUILDS.items():
        packages[name].mkdir(parents=True, exist_ok=True)
        for file, text in package(config, design(config, name, f"{name}_")).items():
            (packages[name] / file).write_text(text())
    return packages


def compile_firmware(folder: Path, packages: Mapping[str, Path]) -> None:
    """``folder/ROM``: what the processor starts with."""
    include = [f"-I{place}" for place in (folder, *packages.values())]
    elf = folder / "firmware.elf"
    sources = [HERE / "firmware" / name for name in ("start.S", "main.c")]
    environment = os.environ | {f"ZIG_{kind}_CACHE_DIR": str(build_folder() / "zig")
                                for kind in ("LOCAL", "GLOBAL")}
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *TARGET, *FLAGS, *include, "-T",
                    HERE / "firmware" / "link.ld", *sources, "-o", elf], env=environment,
                   check=True)
    (folder / ROM).write_text("".join(f"{word:08x}\n" for word in rom_words(elf.read_bytes())))


def rom_words(elf: bytes) -> tuple[int, ...]:
    """What the loaded segments of a 32-bit ELF put from address 0 on."""
    start, size, count = (struct.unpack_from("<I", elf, 28)[0], *struct.unpack_from("<2H", elf, 42))
    rom = bytearray()
    for index in range(count):
        kind, offset, _, address, length = struct.unpack_from("<5I", elf, start + index * size)
        if kind == 1 and length:
            rom.extend(bytes(max(0, address + length - len(rom))))
            rom[address:address + length] = elf[offset:offset + length]
    rom.extend(bytes(-len(rom) % 4))
    return struct.unpack(f"<{len(rom) // 4}I", rom)


def simulate(folder: Path, soc: Written) -> tuple[int, str]:
    """Cycles until the console closed, and what it printed."""
    library = ctypes.CDLL(str(build_library(soc.verilog, "soc", [HERE / "bench.cpp"])))
    library.soc_run.restype = ctypes.c_int64
    text, sent = ctypes.create_string_buffer(CONSOLE), ctypes.c_uint64()
    with chdir(folder):  # where the memories' contents are
        cycles = library.soc_run(ctypes.c_int64(CYCLES), ctypes.c_char(b"\4"), text,
                                 ctypes.c_uint64(CONSOLE), ctypes.byref(sent))
    console = text.raw[:sent.value].decode("ascii", "replace")
    if cycles < 0:
        raise SystemExit(f"no end within {CYCLES} cycles; the console: {console[-500:]!r}")
    return cycles, console


def head(name: str, base: int) -> ProgramImage:
    """An attention head for a build, to be run in a memory from address ``base`` on."""
    return lower(BUILDS[name], small.load(TOKENS), [0], base=base).image


def compare(name: str, found: np.ndarray) -> int:
    """Bytes of the memory that are not what the machine model leaves there, the program aside: in
    it the firmware has moved addresses that no command uses, too."""
    wanted = head(name, MEMORY[name])
    first, at = wanted.memory.copy(), wanted.address - wanted.base
    outcome = Machine(BUILDS[name]).run(wanted.memory, wanted.address, wanted.base)
    assert outcome.error is None and len(found) == len(first)
    differing = np.flatnonzero(found[:at] != wanted.memory[:at])
    changed = np.count_nonzero(first[:at] != wanted.memory[:at])
    print(f"{name:5} {BUILDS[name].fmt:6} {at} bytes of memory, {changed} of them changed by the "
          f"program, {differing.size} differ from the machine model's")
    return differing.size if changed else at


def main() -> int:
    parser = argparse.ArgumentParser(description="Two accelerators and a RISC-V, by LiteX.")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path,
                        default=build_folder() / "soc", help="where all files go (build/soc)")
    folder: Path = parser.parse_args().output.resolve()

    packages = make_packages(folder)
    soc = write_soc(packages)
    for name in BUILDS:
        (folder / f"{name}_head.h").write_text(c_image(head(name, 0), f"{name}_head"))
    for file, text in {**soc.contents, **soc.headers, "soc.v": soc.verilog}.items():
        (folder / file).write_text(text)
    compile_firmware(folder, packages)
    cycles, console = simulate(folder, soc)

    memories = dict(re.findall(r"^(\w+) holds ([0-9a-f]+)\n", console, re.M))
    print(re.sub(r"^\w+ holds .*\n", "", console, flags=re.M), end="")
    if memories.keys() != BUILDS.keys() or "both run" not in console or "of 2 of 2" not in console:
        return 1
    found = {name: np.frombuffer(bytes.fromhex(text), np.uint8) for name, text in memories.items()}
    mismatches = sum(compare(name, found[name]) for name in BUILDS)
    print(f"the system ran {cycles} cycles; bytes compared: "
          f"{sum(map(len, found.values()))}, mismatches: {mismatches}")
    return int(mismatches > 0)


if __name__ == "__main__":
    sys.exit(main())
