"""Quantised ONNX files on the machine model: the file's own codes in memory, its scales at work."""

import re

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.onnx.scales import load_scales
from compiler.checkpoints.scales import Scales
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower
from compiler.program.builder import read, read_codes
from hdl.spec.config import AcceleratorConfig
from sim import quantise, run
from sim.inference.results import final_tensor
from sim.verify.runner import on_machine
from support.onnx_files import stored

CONFIG = AcceleratorConfig("int8", dim=4, functions="scales")
STATIC = ("int8-qdq", "int8-qdq-shifted", "int8-operators")
# Tensors of weights, and which of a layer's products are in them.
PRODUCTS = {"projections": (0, 1, 2), "attention output": (5,), "up": (6,),
            "feed-forward output": (7,)}


def lowered(case, folder, ids, kinds=None, scales=None):
    path = case.write(folder)
    scales = load_scales(path) if scales is None else scales
    inputs = Inputs("ids", ids[None], segments=None if kinds is None else kinds[None])
    return lower(CONFIG, load(path), inputs, level=Fusion.RESIDUAL, scales=scales)


def cosine(program, wanted):
    """Of what the program leaves on the machine model."""
    memory = on_machine(program.image, CONFIG, quiet=True).memory
    found = np.float64(read(memory, final_tensor(program), program.base))
    return (found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted)


@pytest.mark.parametrize("name, row", [*((name, False) for name in STATIC), ("int8-qdq", True)])
def test_codes_of_the_file_are_those_in_memory(name, row, tmp_path):
    """By row too where each column has a scale of its own."""
    case, compared = stored(name), 0
    program = lowered(case, tmp_path, np.array([3, 17, 29, 5]),
                      scales="row" if row else None)
    for index in range(2):
        for part, numbers in PRODUCTS.items():
            wanted = np.concatenate([case.values[f"product {8 * index + number} b codes"].T
                                     for number in numbers])
            # Whole, or the rows of each head apart.
            found = np.concatenate([
                read_codes(program.memory, tensor, program.base).view(np.int8)
                for tensor in program.image.tensors if tensor.name.endswith(" codes")
                and tensor.name.startswith(f"layer {index} {part} weight")])
            assert np.array_equal(found, wanted)
            compared += found.size
    print(f"{name}: {compared} codes")
    assert compared == 2 * (4 * 256 + 2 * 384)


@pytest.mark.parametrize("name", STATIC)
def test_results_are_near_those_of_onnxruntime(name, tmp_path):
    """Which rounds what is added too, and in two of the files all that a product gives."""
    case, cosines = stored(name), []
    for ids, kinds, outputs in case.runs():
        program = lowered(case, tmp_path, ids, kinds)
        cosines.append(cosine(program, outputs[0]))
    print(f"{name}: cosines {', '.join(f'{own:.5f}' for own in cosines)}")
    assert min(cosines) > 0.998


def command(case, folder, capsys, on="machine"):
    path = case.write(folder)
    np.save(folder / "ids.npy", np.array([3, 17, 29, 5]))
    try:
        code = run.main([str(path), "--ids", str(folder / "ids.npy"), "--fmt", "int8", "--dim", "4",
                         "--on", on, "--quiet", "--scales", str(path)])
    except SystemExit as error:
        code = error.code
    return code, capsys.readouterr()


def test_the_command_takes_the_files_own_scales(tmp_path, capsys):
    code, told = command(stored("int8-qdq-tensor"), tmp_path, capsys)
    compared, wrong = map(int, re.search(r"bytes compared: (\d+), mismatches: (\d+)",
                                         told.out).groups())
    assert code == 0 and compared > 300 and wrong == 0 and "scales static" in told.out


@pytest.mark.slow
@pytest.mark.parametrize("name", STATIC)
def test_every_byte_on_rtl(name, tmp_path, capsys):
    code, told = command(stored(name), tmp_path, capsys, "rtl")
    assert code == 0 and "mismatches: 0" in told.out and "other" in told.out


def test_symmetric_scales_run(tmp_path, capsys):
    case, file = stored("int8-qdq-zeros"), tmp_path / "scales"
    path = case.write(tmp_path)
    assert quantise.main([str(path), "--symmetric", "-o", str(file)]) == 0
    assert re.search(r"\d+ scales, \d+ of them for codes with zero", capsys.readouterr().out)
    cosines = []
    for ids, kinds, outputs in case.runs():
        program = lowered(case, tmp_path, ids, kinds, Scales.load(file))
        cosines.append(cosine(program, outputs[0]))
    print(f"cosines {', '.join(f'{own:.5f}' for own in cosines)}")
    assert min(cosines) > 0.998
    with pytest.raises(SystemExit):
        quantise.main(["random-bert", "--symmetric", "-o", str(file)])
    assert "must be an ONNX file with --symmetric, not 'random-bert'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["int8-qdq-zeros", "int8-dynamic"])
def test_the_command_refuses_in_one_line(name, tmp_path, capsys):
    code, told = command(stored(name), tmp_path, capsys)
    assert code == 2 and told.err.count("\n") == 1 and "--scales row takes" in told.err
