"""The type checker of `make lint` finds what it is there for."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WRONG = '''
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from gen.top import generate
from hdl.spec.config import AcceleratorConfig

config = AcceleratorConfig("posit8", dims=4)
generate(config, prefx="a")
builder = ProgramBuilder(config)
x = builder.empty(4, 4)
builder.gemm(x, x, x, Epilogue(scal=0.5))
builder.gemm(x, x, x, a_transpose=True)
Instruction(multiply=3.5)
config.lane_width
'''


def test_misspelt_options_and_wrong_types_are_found(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    done = subprocess.run([sys.executable, "-m", "mypy", str(wrong)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    found = dict(re.findall(r'wrong\.py:(\d+): error: .*?"(\w+)"', done.stdout))
    assert found == {"8": "dims", "9": "prefx", "12": "scal", "13": "a_transpose",
                     "14": "multiply", "15": "AcceleratorConfig"}
