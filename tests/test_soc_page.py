"""The commands of docs/soc.md, as they stand, in a checkout whose products go elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sim.harness.verilate import verilator_shim
from support.require import command, module, require

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/soc.md").read_text(encoding="utf-8")
NOT_RUN = {"make setup", ". .venv/bin/activate"}  # what runs the tests
SLOW = ("make soc-demo", "python -m synth.front_ends", "fusesoc --cores-root build/my-soc/left run "
        "--target=lint")
SAYS = {"--target=sim": r"left: copied 63 bytes in \d+ cycles, 2048 bytes compared, 0 differ",
        "sim.image show": r"memory: \d+ bytes", "soc-demo": r"bytes compared: \d+, mismatches: 0$",
        "front_ends": r"readings, 0 faults$"}


def commands():
    return re.findall(r"^    ((?:make|python|fusesoc|\.) .*)$", PAGE, re.MULTILINE)


def run(line, folder):
    """What a command says; its files go to ``folder`` in place of ``build``."""
    words = [re.sub(r"^build/", f"{folder}/", word) for word in line.split()]
    if words[0] == "make":  # the rule's recipe, without the rule's set-up
        (recipe,) = re.findall(rf"^{words[1]}: .*\n\t@\$\(RUN\) (.*)$",
                               (ROOT / "Makefile").read_text(), re.MULTILINE)
        words = ["python", *recipe.split()]
    launch = {"python": [sys.executable], "fusesoc": [sys.executable, "-m", "fusesoc.main"]}
    if words[0] == "fusesoc":  # its products go to where it is called
        words[2] = os.path.abspath(words[2])
    place = folder if words[0] == "fusesoc" else ROOT
    done = subprocess.run([*launch[words[0]], *words[1:]], cwd=place, capture_output=True,
                          text=True, env=os.environ | {
        "OTTAVA_BUILD": str(folder), "PYTHONPATH": str(ROOT),
        "PATH": f"{verilator_shim()}{os.pathsep}{os.environ['PATH']}"})
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def checked(lines, folder):
    ran = 0
    for line in lines:
        said = run(line, folder)
        ran += 1
        for part, pattern in SAYS.items():
            if part in line:
                assert re.search(pattern, said, re.MULTILINE), f"{line}\n{said}"
    return ran


def is_slow(line):
    return line.startswith(SLOW)


def test_quick_commands_of_the_page(tmp_path):
    require(command, "iverilog", "vvp")
    lines = [line for line in commands() if line not in NOT_RUN and not is_slow(line)]
    assert checked(lines, tmp_path) >= 7
    assert {path.name for path in tmp_path.glob("my-soc/*")} == {"left", "right", "bert.image",
                                                                 "bert.h"}


@pytest.mark.slow
def test_slow_commands_of_the_page(tmp_path):
    require(module, "litex")
    packaged = [line for line in commands() if "gen.package" in line]
    lines = [line for line in commands() if is_slow(line)]
    assert checked([*packaged, *lines], tmp_path) >= 5


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert named and all((ROOT / "docs" / name).exists() for name in named)
