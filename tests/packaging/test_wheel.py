"""A wheel of the tree works where there is no checkout and no right to write next to the sources.

The environments here are made for the test. The quick one borrows the packages that this project
depends on, the nightly one installs them from the package index.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hdl", "gen", "compiler", "sim", "synth")
BUILD = ["--small", "--dim", "4", "--lanes", "4"]
# Root may write everywhere: these rights are given up, so that read-only means it.
_RIGHTS = "-dac_override,-dac_read_search,-fowner"
_UNPRIVILEGED = ["setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}"]


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def tracked():
    """Files that git knows or would take, relative to the root."""
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the tree as git has it: a build inside the checkout would leave files there."""
    folder = tmp_path_factory.mktemp("tree")
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--disable-pip-version-check", "-w", folder / "made", folder)
    made, = (folder / "made").glob("*.whl")
    return made


@dataclass(frozen=True)
class Environment:
    """An environment with the wheel in it, used from another folder and by someone else."""

    folder: Path

    @property
    def python(self):
        return self.folder / "venv/bin/python"

    @property
    def site(self):
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder / "venv")}))

    def install(self, *arguments):
        run(sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet",
            "--disable-pip-version-check", "--no-compile", *arguments)

    def seal(self):
        """Make all that is installed read-only."""
        for path in [self.site, *self.site.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)

    def run(self, *arguments):
        """Standard output of ``python arguments`` in an empty folder."""
        away = self.folder / "away"
        away.mkdir(exist_ok=True)
        prefix = _UNPRIVILEGED if os.geteuid() == 0 else []
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home")}
        output = run(*prefix, self.python, *arguments, cwd=away, env=environment)
        assert not list(away.iterdir()), "nothing may depend on the working directory"
        return output


def environment(folder):
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (folder / "home").mkdir()
    return Environment(folder)


@pytest.fixture(scope="module")
def borrowed(wheel, tmp_path_factory):
    """The wheel alone; what it depends on comes from the environment of these tests."""
    made = environment(tmp_path_factory.mktemp("borrowed"))
    made.install("--no-deps", "--no-index", wheel)
    # A path in a .pth file brings packages along, but no .pth files: no editable install.
    (made.site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made.seal()
    return made


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {name for name in tracked() if name.split("/")[0] in PACKAGES}
    assert held == wanted
    kinds = {Path(name).suffix for name in held}
    assert kinds >= {".py", ".hpp", ".cpp", ".vlt", ".lib", ".npz", ".safetensors", ".typed"}


def test_the_environment_is_read_only(borrowed):
    """The negative control: what the other tests rely on."""
    with pytest.raises(AssertionError, match="Permission denied|Read-only"):
        borrowed.run("-c", f"open({str(borrowed.site / 'hdl/new')!r}, 'w')")


def test_every_module_is_found_in_the_wheel(borrowed):
    code = f"""
import importlib, pkgutil
files = [importlib.import_module(item.name).__file__
         for root in {PACKAGES} for item in pkgutil.walk_packages(
             importlib.import_module(root).__path__, root + ".")
         if not item.name.endswith(("__main__", "_tb"))]
print(*files, sep="\\n")
"""
    files = borrowed.run("-c", code).splitlines()
    assert len(files) > 150 and all(file.startswith(str(borrowed.site)) for file in files)


def test_the_wheel_generates_what_the_checkout_generates(borrowed):
    flags = ["-m", "gen.top", "--fmt", "posit8", "--dim", "4", "--lanes", "4"]
    here = run(sys.executable, *flags, cwd=ROOT)
    assert digest(borrowed.run(*flags)) == digest(here)


def test_the_wheel_brings_the_command(borrowed, wheel):
    version, = re.findall(r"^ottava-(.*?)-py3", wheel.name)
    assert borrowed.run(borrowed.python.with_name("ottava"), "--version") == f"ottava {version}\n"


def test_the_wheel_measures_areas_by_its_own_library(borrowed):
    said = borrowed.run("-m", "synth.area", "--fmt", "posit8", "--block", "decoder")
    result = borrowed.folder / "home/.cache/ottava/build/area.json"
    assert str(result) in said and json.loads(result.read_text())["library"] == "ottava"


def test_the_wheel_runs_a_head_on_the_machine_model(borrowed):
    said = borrowed.run("-m", "sim.demo", *BUILD, "--tokens", "8", "--on", "machine")
    assert "mismatches: 0" in said


def test_the_wheel_lowers_a_model(borrowed):
    said = borrowed.run("-m", "compiler", "random-bert", "--dim", "4", "--list", "commands")
    assert "gemm " in said and "end" in said.splitlines()[-1]


@pytest.mark.slow
def test_the_wheel_alone_in_an_empty_environment(wheel, tmp_path):
    alone = environment(tmp_path)
    alone.install("-c", ROOT / "tools/constraints.txt", f"{wheel}[synth,sim]")
    alone.seal()
    before = {path: path.stat().st_mtime_ns for path in alone.site.rglob("*")}
    assert "module ottava(" in alone.run("-m", "gen.top", "--fmt", "posit8")
    assert "mismatches: 0" in alone.run("-m", "sim.demo", *BUILD, "--tokens", "8")
    assert " 0 differ" in alone.run("-m", "sim.run", "digits-vit", "--on", "rtl", "--dim", "4",
                                    "--layers", "0:1")
    assert "commands" in alone.run("-m", "compiler", "random-bert", "--dim", "4")
    assert "Gate-equivalents" in alone.run("-m", "synth.area", "--dim", "4", "--fmt", "posit8",
                                           "--block", "decoder", "mac")
    assert before == {path: path.stat().st_mtime_ns for path in alone.site.rglob("*")}
