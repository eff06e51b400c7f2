"""An image as C, and what the C driver makes of it in another place."""

import ctypes
import subprocess

import numpy as np
import pytest

from compiler.checkpoints import small
from compiler.lowering.heads import lower
from compiler.program.records import commands
from gen.package.driver import driver
from gen.regmap import register_map
from hdl.spec.command_fields import Role
from hdl.spec.commands import COMMAND, COMMAND_BYTES
from hdl.spec.config import AcceleratorConfig
from sim.c_image import c_image
from sim.image import main
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=4)
OK, BAD_IMAGE = 0, 6
ADDRESSES = [name for name, field in COMMAND.items() if field.role is Role.ADDRESS]
SHIM = """\
#include "ottava_driver.h"
#include "head.h"
int load(const uint8_t *bytes, uint64_t size, uint64_t base, uint64_t program, uint8_t *memory,
         uint64_t address, uint64_t *start) {
  const struct ottava_image image = {bytes, size, base, program};
  return ottava_load(&image, memory, address, start);
}
int load_head(uint8_t *memory, uint64_t address, uint64_t *start) {
  return load(head_bytes, HEAD_SIZE, HEAD_BASE, HEAD_PROGRAM, memory, address, start);
}
unsigned place(void) { return HEAD_AT_O; }
unsigned long length(void) { return HEAD_BYTES_O; }
"""


@pytest.fixture(scope="module")
def image():
    return lower(CONFIG, small.load(5), [0], base=0x1_0000_0000).image


@pytest.fixture(scope="module")
def library(image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    for name, text in {"ottava.h": register_map("h", CONFIG), "ottava_driver.h": driver(CONFIG),
                       "head.h": c_image(image, "head"), "shim.c": SHIM}.items():
        (folder / name).write_text(text)
    subprocess.run(["g++", "-x", "c", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror",
                    "-Wno-unused-function", "-shared", "-fPIC", "-o", folder / "c.so",
                    folder / "shim.c"], check=True)
    return ctypes.CDLL(str(folder / "c.so"))


def loaded(library, image, content, size, address, program=None):
    """The code, the memory and the program's place that C makes of ``content``."""
    memory, start = np.full(image.memory.size, 0xA5, np.uint8), ctypes.c_uint64()
    code = library.load(content.tobytes(), ctypes.c_uint64(size), ctypes.c_uint64(image.base),
                        ctypes.c_uint64(image.address if program is None else program),
                        memory.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(address),
                        ctypes.byref(start))
    return code, memory, start.value


@pytest.mark.parametrize("address", [0, 0x4000_0000, 0x7FFF_FFFF_0040])
def test_a_program_that_was_moved_does_the_same(library, image, address):
    memory, start = np.zeros(image.memory.size, np.uint8), ctypes.c_uint64()
    assert library.load_head(memory.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(address),
                             ctypes.byref(start)) == OK
    assert start.value == image.address - image.base + address
    before = list(commands(image.memory, image.address, image.base))
    after = list(commands(memory, start.value, address))
    assert len(before) == len(after) > 5
    by = address - image.base
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert new == old | {name: (old[name] + by) % 2**64 for name in ADDRESSES}
    wanted = image.memory.copy()
    Machine(CONFIG).run(wanted, image.address, image.base)
    assert Machine(CONFIG).run(memory, start.value, address).error is None
    at = image.address - image.base
    assert np.array_equal(memory[:at], wanted[:at])
    assert np.count_nonzero(wanted != image.memory) > 100


def test_results_are_where_the_header_says(library, image):
    tensor = image.tensor("O")
    assert library.place() == tensor.address - image.base
    assert library.length() == tensor.span


def test_what_is_no_image_is_not_loaded(library, image):
    whole, at = image.memory, image.address - image.base
    magic, short = whole.copy(), whole.copy()
    magic[at] ^= 1
    short[at + 12] -= 1  # the header's count: END lies beyond
    assert loaded(library, image, whole, whole.size, 64)[0] == OK
    for content, size, address, program in (
            (magic, whole.size, 64, None), (short, whole.size, 64, None),
            (whole, whole.size - COMMAND_BYTES, 64, None), (whole, at + 63, 64, None),
            (whole, whole.size, 32, None), (whole, whole.size, 64, image.address + 32),
            (whole, whole.size, 64, image.base - 64),
            (whole, whole.size, 64, image.base + whole.size)):
        code, memory, _ = loaded(library, image, content, size, address, program)
        assert code == BAD_IMAGE and np.all(memory == 0xA5)


def test_the_command_writes_what_the_function_gives(image, tmp_path, capsys):
    image.save(tmp_path / "image")
    assert main(["c", str(tmp_path / "image"), "--name", "head"]) == 0
    assert capsys.readouterr().out == c_image(image, "head")
    with pytest.raises(SystemExit) as ended:
        main(["c", str(tmp_path / "image"), "--name", "a-b", "-o", str(tmp_path / "a.h")])
    assert ended.value.code == 2 and not (tmp_path / "a.h").exists()
    assert "must be a legal C identifier, not 'a-b'" in capsys.readouterr().err
