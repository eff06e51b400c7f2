"""A field more in the tables reaches everything that derives from them."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]


def test_fields_more_in_the_tables():
    done = subprocess.run([sys.executable, "-m", "support.new_fields"], cwd=TESTS.parent,
                          env=os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("follow")
