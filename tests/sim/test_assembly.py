import re

import numpy as np
import pytest

from compiler.program.assembly.listing import program_bytes
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.image import ProgramImage
from hdl.spec.config import AcceleratorConfig
from sim.assembly import main


@pytest.fixture
def image(tmp_path):
    builder = ProgramBuilder(AcceleratorConfig(dim=4), 0x40)
    x = builder.constant(np.ones((2, 3)), name="x")
    builder.vector(x, builder.empty(2, 3, name="y"), Epilogue(relu=True))
    image = ProgramImage.of(builder)
    image.save(tmp_path / "image")
    return image


def dumped(capsys, *arguments):
    assert main(["dump", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    line = capsys.readouterr().err
    assert caught.value.code == 2 and line.count("\n") == 1
    return line


def test_dump_and_assemble_are_inverse(image, tmp_path, capsys):
    text = dumped(capsys, tmp_path / "image")
    assert len(text.splitlines()) == 3 and "relu(x) →MEMORY" in text
    (tmp_path / "text").write_text(text)
    assert main(["assemble", str(tmp_path / "text"), "-o", str(tmp_path / "bytes")]) == 0
    program = (tmp_path / "bytes").read_bytes()
    assert program == program_bytes(image.memory, image.address, image.base)
    assert "320 bytes of program" in capsys.readouterr().out
    assert dumped(capsys, tmp_path / "bytes", "--address", hex(image.address)) == text


def test_a_longer_program_goes_into_the_image(image, tmp_path, capsys):
    text = dumped(capsys, tmp_path / "image")
    longer = re.sub("commands 2, ", "", text).replace("end", "fence\nend")
    (tmp_path / "text").write_text(longer)
    assert main(["assemble", str(tmp_path / "text"), "--into", str(tmp_path / "image"),
                 "-o", str(tmp_path / "new")]) == 0
    found = ProgramImage.load(tmp_path / "new")
    assert found.memory.size == image.memory.size + 128
    capsys.readouterr()
    lines = dumped(capsys, tmp_path / "new").splitlines()
    assert len(lines) == 4 and "commands 3" in lines[0] and lines[2].endswith("fence")
    start = image.address - image.base
    assert np.array_equal(found.memory[:start], image.memory[:start])


def test_errors_are_one_line(image, tmp_path, capsys):
    text, out = tmp_path / "text", tmp_path / "out"
    text.write_text("header isa 1.0\nend\ngem 1")
    assert f"{text}, line 3: command must be" in refused(capsys, "assemble", text, "-o", out)
    assert not out.exists()
    assert "No such file" in refused(capsys, "assemble", tmp_path / "none", "-o", out)
    text.write_bytes(b"\xff\xfe")
    assert "must be text in UTF-8" in refused(capsys, "assemble", text, "-o", out)
    text.write_text("header isa 1.0\nend")
    nowhere = tmp_path / "none" / "out"
    assert "must be a writable file" in refused(capsys, "assemble", text, "-o", nowhere)
    assert "must be a whole program image" in refused(capsys, "dump", text)
    text.write_text("header isa 1.0\nvector 1×1 X@0/1 → C@0/1: x →MEMORY\nend")
    line = refused(capsys, "assemble", text, "--into", tmp_path / "image", "-o", out)
    assert "X of the command at 0xc0, 1 bytes at 0x0, must lie in" in line
    assert "--address must be an integer, not 'x'" in refused(
        capsys, "dump", tmp_path / "image", "--address", "x")
