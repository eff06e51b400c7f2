"""The examples run from the root as their pages say, and end with 1 where a byte differs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "one_gemm.py": r"bytes compared: 1344, mismatches: (\d+)",
    "one_head.py": r"bytes compared: 1152, mismatches: (\d+)",
    "own_texts.py": r"bytes compared: \d+, mismatches: (\d+)",
    "own_checkpoint.py": r"bytes compared: 576, mismatches: (\d+)",
    "block_alone/run.py": r"pairs compared: 65536, .* mismatches: (\d+)",
    "soc/run.py": r"bytes compared: 10752, mismatches: (\d+)",
}
HELPERS = {"soc/soc.py"}  # imported by one of them
SLOW = {"soc/run.py"}
LIMITED = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else (), id=name)
           for name in EXAMPLES]
# What makes an example's two sides differ: a byte of each run on RTL, the values of the codes.
FLIPPED = """
from sim.harness.accelerator import Accelerator
run = Accelerator.run
def flipped(self, memory, *arguments, **options):
    result = run(self, memory, *arguments, **options)
    memory[result.written.argmax()] ^= 1
    return result
Accelerator.run = flipped
"""
OTHER_MODEL = """
from sim.model.machine import Machine
run = Machine.run
def flipped(self, memory, *arguments, **options):
    outcome = run(self, memory, *arguments, **options)
    memory[7] ^= 1
    return outcome
Machine.run = flipped
"""
NEGATED = """
from sim.model import codec
decode = codec.decode
codec.decode = lambda *arguments: -decode(*arguments)[::-1]
"""


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})


FAULTS = {"block_alone/run.py": NEGATED, "soc/run.py": OTHER_MODEL}


@pytest.mark.parametrize("name", LIMITED)
def test_an_example_agrees_with_itself(name):
    done = python(ROOT / "examples" / name)
    assert done.returncode == 0, done.stderr
    assert re.findall(EXAMPLES[name], done.stdout) == ["0"]


@pytest.mark.parametrize("name", LIMITED)
def test_a_mismatch_ends_with_1(name):
    path = ROOT / "examples" / name
    place, beside = str(path), str(path.parent)
    code = f"import runpy, sys; sys.argv = [{place!r}]; sys.path.insert(0, {beside!r})\n" \
           f"{FAULTS.get(name, FLIPPED)}\nrunpy.run_path({place!r}, run_name='__main__')"
    done = python("-c", code)
    assert done.returncode == 1, done.stderr
    found = re.findall(EXAMPLES[name], done.stdout)
    assert len(found) == 1 and int(found[0]) > 0


def test_every_example_is_tested():
    found = {str(path.relative_to(ROOT / "examples"))
             for path in (ROOT / "examples").rglob("*.py")}
    assert found == set(EXAMPLES) | HELPERS
