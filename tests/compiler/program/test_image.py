"""Program images: what is read is what was written, and whatever is wrong is one line."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from compiler.program.builder import ProgramBuilder, read_codes
from compiler.program.epilogue import Epilogue
from compiler.program.image import ImageError, ProgramImage
from hdl.spec.commands import HEADER_BYTES
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import random_case
from sim.image import main
from sim.model.machine import Machine

BASE = 0x1000


def image_of(config=None):
    config = config or AcceleratorConfig(dim=4)
    rng = np.random.default_rng(0)
    builder = ProgramBuilder(config, BASE)
    x, w = builder.constant(rng.normal(size=(3, 5)), name="x"), builder.constant(
        rng.normal(size=(2, 5)), name="w", skew=4)
    out = builder.empty(3, 2, "bf16", name="out")
    builder.gemm(x, w, out, Epilogue(scale=0.5), b_transposed=True)
    return ProgramImage.of(builder, (out,), seed=1)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "an.image"
    image_of().save(path)
    return path


def described(path):
    with safe_open(path, "numpy") as file:
        return file.get_tensor("memory").copy(), json.loads(file.metadata()["ottava"])


def rewrite(path, change):
    """The file with ``change``(memory, description), whose memory's digest is made right."""
    memory, about = described(path)
    memory = change(memory, about)
    memory = described(path)[0] if memory is None else memory
    about.setdefault("crc32", zlib.crc32(memory))
    save_file({"memory": memory}, path, {"ottava": json.dumps(about)})


def refused(capsys, *arguments):
    """The one line that the command line ends with, exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    line = capsys.readouterr().err
    assert caught.value.code == 2 and line.count("\n") == 1, line
    return line


@pytest.mark.parametrize("fmt", ("posit8", "fp8", "bf16"))
def test_an_image_survives_its_file(tmp_path, fmt):
    image = image_of(AcceleratorConfig(fmt, dim=4, lane_latency=2))
    image.save(tmp_path / "image")
    found = ProgramImage.load(tmp_path / "image")
    assert np.array_equal(found.memory, image.memory) and found.memory.size > 200
    assert replace(found, memory=None) == replace(image, memory=None)
    assert found.tensor("out").shape == (3, 2) and found.results == ("out",)


def test_it_runs_from_the_file_as_from_the_builder(path, tmp_path, capsys):
    image = image_of()
    memory = image.memory.copy()
    assert Machine(image.config).run(memory, image.address, image.base).error is None
    assert main(["run", str(path), "-o", str(tmp_path / "after")]) == 0
    after = ProgramImage.load(tmp_path / "after")
    assert np.array_equal(after.memory, memory) and not np.array_equal(memory, image.memory)
    codes = read_codes(after.memory, after.tensor("out"), after.base)
    assert np.array_equal(codes, read_codes(memory, image.tensor("out"), image.base))
    assert "ran in" in capsys.readouterr().out


def test_show_names_build_and_tensors(path, capsys):
    assert main(["show", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "dim=4" in lines[0] and "from 0x1000 on" in lines[1] and "ACC_BF16" in lines[2]
    assert [line.split()[-1] for line in lines[3:]] == ["x", "w", "result"]


def test_a_gather_survives_and_its_indices_must_lie_in_memory(tmp_path):
    builder = ProgramBuilder(AcceleratorConfig(dim=4), BASE)
    table = builder.constant(np.eye(5, 3), name="table")
    numbers, out = builder.indices([4, 0]), builder.empty(2, 3, name="out")
    builder.gather(table, numbers, out)
    image = ProgramImage.of(builder, (out,))
    image.save(tmp_path / "an.image")
    found = ProgramImage.load(tmp_path / "an.image")
    assert found.tensors == (table, numbers, out)
    assert found.tensors[1].codes(found.memory, BASE).ravel().tolist() == [4, 0]
    start = image.address - BASE + HEADER_BYTES
    image.memory[start + 24:start + 32] = 0  # b_address
    with pytest.raises(ImageError, match="indices of the command at .*, 8 bytes at 0x0, must lie"):
        image.check()


def test_random_programs_pass_the_check():
    config, rng = AcceleratorConfig("fp8", dim=4), np.random.default_rng(6)
    for _ in range(40):
        case = random_case(config, rng)
        image = ProgramImage(config, case.memory, case.address, case.base, case.outputs)
        image.check()
        spare = case.address - case.base + HEADER_BYTES + 127
        with pytest.raises(ImageError, match="must lie in|must end with END in"):
            replace(image, memory=case.memory[:spare]).check()


def test_a_truncated_file(path, capsys):
    whole = path.read_bytes()
    for size in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "an.image must be a whole program image: " in refused(capsys, "show", path)


def test_a_flipped_bit(path, capsys):
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 16
    path.write_bytes(whole)
    assert "memory must have the bytes that it was written with" in refused(capsys, "run", path)


def test_other_files(path, tmp_path, capsys):
    save_file({"weight": np.zeros(3)}, path)
    assert "must be a program image, not other safetensors" in refused(capsys, "show", path)
    assert "No such file" in refused(capsys, "show", tmp_path / "none")


def changed(**values):
    return lambda memory, about: about.update(values)


def smaller(memory, about):
    del about["crc32"]
    return memory[:-128].copy()


def far_tensor(memory, about):
    about["tensors"][0]["address"] = 0x9000


def far_operand(memory, about):
    del about["crc32"]
    start = about["program"] - about["base"] + HEADER_BYTES + 16
    memory[start:start + 8] = 255
    return memory


@pytest.mark.parametrize("change, message", [
    (changed(version=2), "version must be 1, not 2"),
    (changed(config_hash="0x1"), "config must have the digest 0x1, not 0x"),
    (changed(config={"fmt": "posit9"}), "description must be that of a program image: ValueError"),
    (changed(config={"colour": 1}), "description must be that of a program image: TypeError"),
    (changed(tensors=[{}]), "description must be that of a program image: KeyError('name')"),
    (changed(program=BASE + 1), "program must be a multiple of 64, not 0x1001"),
    (changed(program=0), "program at 0x0 must lie in the 384 bytes of memory from 0x1000 on"),
    (changed(program=1 << 40), "program at 0x10000000000 must lie in the 384 bytes"),
    (smaller, "program at 0x1040 must end with END in the 256 bytes"),
    (far_tensor, "x, 15 bytes at 0x9000, must lie in the 384 bytes"),
    (far_operand, "A of the command at 0x1080, 15 bytes at 0xffffffffffffffff, must lie in"),
])
def test_what_is_wrong_is_named(path, capsys, change, message):
    rewrite(path, change)
    assert message in refused(capsys, "show", path)


def test_a_program_for_another_build(path, capsys):
    line = refused(capsys, "run", path, "--fmt", "fp8")
    assert "program must run on a build with POSIT8 and ACC_BF16" not in line
    assert "program must run on a build with POSIT8, as that of fmt posit8, acc bf16" in line
    assert "not on fmt fp8" in line
    assert "acc must be one of" in refused(capsys, "run", path, "--acc", "int4")
    line = refused(capsys, "run", path, "--on", "moon")
    assert "--on must be one of rtl, cocotb, machine, not 'moon'" in line


def test_another_build_that_will_do_is_told(path, capsys):
    assert main(["run", str(path), "--dim", "8"]) == 0
    assert "built for another configuration" in capsys.readouterr().out


def test_a_program_that_fails_is_an_error(path, capsys):
    def no_magic(memory, about):
        del about["crc32"]
        memory[about["program"] - about["base"]] ^= 1
        return memory
    rewrite(path, no_magic)
    assert main(["run", str(path)]) == 1
    assert capsys.readouterr().err == "error: the machine model stopped with BAD_MAGIC at 0x1040\n"


def test_an_unwritable_place(path, tmp_path, capsys):
    line = refused(capsys, "run", path, "-o", tmp_path / "none" / "after")
    assert "output must be a writable file" in line
