"""The doctor tells what is missing and what works without it, on machines made up for it."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

DOCTOR = Path(__file__).resolve().parents[2] / "tools" / "doctor.py"
VERSIONS = {"make": "GNU Make 4.3", "g++": "g++ (Debian 12.2.0-14) 12.2.0", "perl": "v5.36.0",
            "iverilog": "Icarus Verilog version 11.0 (stable)"}


def doctor(path):
    """The doctor on a machine whose programs are those of ``path``."""
    return subprocess.run([sys.executable, "-E", DOCTOR], capture_output=True, text=True,
                          env={"PATH": str(path), "HOME": str(path)})


def lines(done, word):
    return [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()
            if line.startswith(word + " ")]


@pytest.fixture
def machine(tmp_path):
    """A folder of programs that print a version and do nothing else."""
    for name, said in VERSIONS.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
    return tmp_path


def test_a_complete_machine_is_ready(machine):
    done = doctor(machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("all that `make` and `make test` need is here\n")
    found = [" ".join(line.split()) for line in lines(done, "found")]
    assert {"make 4.3", "g++ 12.2.0", "perl 5.36.0", "iverilog 11.0"} <= set(found)
    assert any(line.startswith("amaranth 0.5") for line in found)
    works = lines(done, "works")
    assert "generating: gen.top, gen.block" in works and "make test" in works


def test_a_path_without_tools_names_them_and_what_works(tmp_path):
    done = doctor(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "doctor: not ready: install make, g++, perl\n"
    # The set-up's own folder of programs may hold Icarus.
    assert {"make", "g++", "perl"} <= {line.split()[0] for line in lines(done, "missing")}
    assert "generating: gen.top, gen.block" in lines(done, "works")
    assert any(line.startswith("make sim") and line.endswith("needs g++, make, perl")
               for line in lines(done, "without"))


@pytest.mark.parametrize("name", VERSIONS)
def test_one_missing_tool_is_told(machine, name):
    (machine / name).unlink()
    done = doctor(machine)
    if name == "iverilog":
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert done.stderr == f"doctor: not ready: install {name}\n"
    assert [line.split()[0] for line in lines(done, "missing") if line.strip() == name] == [name]


def test_missing_packages_send_to_the_setup(machine, tmp_path):
    # A copy elsewhere has no .venv, and -S hides the packages of the Python that runs it.
    (tmp_path / "project" / "tools").mkdir(parents=True)
    copy = tmp_path / "project" / "tools" / "doctor.py"
    hidden = DOCTOR.read_text().replace('[str(python), "-c"', '[str(python), "-S", "-c"')
    assert hidden != DOCTOR.read_text()
    copy.write_text(hidden)
    (copy.parent / "constraints.txt").write_text((DOCTOR.parent / "constraints.txt").read_text())
    done = subprocess.run([sys.executable, "-E", copy], capture_output=True, text=True,
                          env={**os.environ, "PATH": str(machine), "HOME": str(tmp_path)})
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("doctor: not ready: run `make setup`, which installs amaranth")
    without = lines(done, "without")
    assert "generating: gen.top, gen.block: needs amaranth" in without


def test_every_need_is_something_that_is_looked_for():
    names = runpy.run_path(str(DOCTOR))
    known = {*names["PROGRAMS"], *names["PACKAGES"], names["CELLS"], names["MODEL"]}
    uses = {**names["REQUIRED"], **names["OPTIONAL"]}
    assert {need for needs in uses.values() for need in needs} == known
