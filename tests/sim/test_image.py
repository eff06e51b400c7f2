"""One image on the machine model, in the harness and in a cocotb bench."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.program.image import ProgramImage
from hdl.spec.commands import ErrorCause
from sim.campaigns.programs import random_case
from sim.campaigns.regression import small_accelerator
from sim.image import main
from sim.verify.runner import RunError, on_machine, on_rtl
from support.require import command, require


@pytest.fixture(scope="module")
def image():
    config = small_accelerator("posit8").config
    case = random_case(config, np.random.default_rng(3), largest=7)
    return ProgramImage(config, case.memory, case.address, case.base, case.outputs)


def test_the_harness_leaves_what_the_machine_leaves(image):
    run = on_rtl(image, image.config)
    assert np.array_equal(run.memory, on_machine(image, image.config).memory)
    assert not np.array_equal(run.memory, image.memory)
    assert run.mismatches == 0 and run.written.any() and run.cycles > 100


def test_a_difference_is_counted(image, monkeypatch):
    def other(*arguments):
        run = on_machine(*arguments)
        run.memory[:5] ^= 1
        return run
    monkeypatch.setattr("sim.verify.runner.on_machine", other)
    assert on_rtl(image, image.config).mismatches == 5


def test_a_program_that_the_build_lacks_is_an_error_code_and_the_next_one_runs(image):
    memory = image.memory.copy()
    memory[image.address - image.base + 11] |= 0x80  # a feature that nobody has
    with pytest.raises(RunError, match=f"machine model stopped with BAD_FEATURE at "
                                       f"{image.address:#x}"):
        on_machine(replace(image, memory=memory), image.config)
    accelerator = small_accelerator("posit8")
    result = accelerator.run(memory, image.address, image.base)
    assert (result.error, result.error_address) == (ErrorCause.BAD_FEATURE, image.address)
    assert not result.written.any()
    assert accelerator.run(image.memory.copy(), image.address, image.base).error is None


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ("icarus", "verilator"))
def test_cocotb_runs_the_file(image, tmp_path, capsys, simulator):
    if simulator == "icarus":
        require(command, "iverilog", "vvp")
    image.save(tmp_path / "image")
    arguments = ["run", str(tmp_path / "image"), "--on", "cocotb", "--sim", simulator]
    assert main(arguments) == 0
    assert "mismatches: 0" in capsys.readouterr().out
    memory = image.memory.copy()
    memory[image.address - image.base] ^= 1
    replace(image, memory=memory).save(tmp_path / "image")
    assert main(arguments) == 1
    assert "AssertionError" in capsys.readouterr().err
