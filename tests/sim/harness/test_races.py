"""Two processes that want one product at once: one makes it, both use it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gen.cli.folders import build_folder
from support.race import PRODUCTS

ROOT = Path(__file__).resolve().parents[3]


def race(product, folder, kind):
    """What both processes print, and who made the product."""
    (folder / "one.cpp").write_text('extern "C" int one() { return 1; }\n')
    if product == "batch":  # with Verilator's own objects, which take longer than the module
        shared = build_folder() / "verilated"
        shared.mkdir(parents=True, exist_ok=True)
        (folder / "build").mkdir()
        (folder / "build/verilated").symlink_to(shared)
    environment = os.environ | {"OTTAVA_BUILD": str(folder / "build"),
                                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    running = [subprocess.Popen(
        [sys.executable, "-m", "support.race", product, folder, name, kind], cwd=ROOT, text=True,
        env=environment, stdout=subprocess.PIPE) for name in ("left", "right")]
    printed = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    return printed, (folder / "made").read_text().split()


@pytest.mark.parametrize("product", PRODUCTS)
def test_one_process_makes_what_two_want(product, tmp_path):
    (left, right), made = race(product, tmp_path, "locked")
    assert left == right and len(left) == 1 and len(made) == 1


def test_without_locks_both_make_it(tmp_path):
    # The control: the processes do want it at once, and the race above would tell.
    (left, right), made = race("netlist", tmp_path, "free")
    assert left == right and sorted(made) == ["left", "right"]
