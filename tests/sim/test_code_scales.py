"""What codes in an image count: written, read back, and the same by the drivers in Python and C."""

import ctypes
import json
import subprocess

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from compiler.calibration import calibrate, calibration_examples
from compiler.checkpoints.samples import bert, inputs_for
from compiler.lowering.lower import lower
from compiler.program.builder import ProgramBuilder
from compiler.program.image import ImageError, ProgramImage
from gen.package.driver import driver
from gen.package.host import build as host
from gen.package.host.image import Image
from gen.regmap import register_map
from hdl.spec.config import AcceleratorConfig
from sim.c_image import c_image
from sim.image import main
from sim.verify.runner import on_machine

CONFIG = AcceleratorConfig("int8", dim=4)


@pytest.fixture(scope="module", params=["row", "static"])
def ran(request, tmp_path_factory):
    """An image whose tensors between are results too, its file, and the memory after a run."""
    model = bert(layers=1)
    scales = request.param if request.param == "row" else calibrate(
        model, calibration_examples("random-bert", model))
    image = lower(CONFIG, model, inputs_for(model, 10), scales=scales, keep=True).image
    path = tmp_path_factory.mktemp("image") / "image"
    image.save(path)
    return image, path, on_machine(image, CONFIG, quiet=True).memory


def coded(image):
    """Names of results that are codes, each the last of its name."""
    return [name for name in dict.fromkeys(image.results)
            if image.tensor(name).address in image.scales]


def test_values_are_near_those_in_bf16(ran):
    """Of what is kept both ways, and of weights."""
    image, path, memory = ran
    found, compared = ProgramImage.load(path), []
    assert {place: (scale.factor, scale.stride) for place, scale in found.scales.items()} == {
        place: (scale.factor, scale.stride) for place, scale in image.scales.items()}
    for name in coded(image):
        plain = name.removesuffix(" codes")
        wide = next((n for n in (plain, f"{plain} bf16") if n in image.results), None)
        if wide is None or image.tensor(wide).shape != image.tensor(name).shape:
            continue
        real, values = (found.values(n, memory) for n in (wide, name))
        assert np.abs(values - real).max() <= 1.5 * np.abs(real).max() / 127, name
        assert np.abs(image.tensor(name).codes(memory, 0)).max() > 100
        compared.append(name)
    weight = bert(layers=1).blocks[0].feed_forward.up.weight
    name = next(t.name for t in image.tensors if t.name.endswith("up weight codes"))
    assert np.abs(found.values(name) - weight).max() <= 0.6 * np.abs(weight).max() / 127
    print(f"near those in BF16: {', '.join(compared)}")
    assert len(compared) >= 2


class Bytes:
    """A memory of the driver in Python."""

    address = 0x40000000

    def __init__(self, memory):
        self.memory = memory.tobytes()

    def read(self, offset, count):
        return self.memory[offset:offset + count]


def test_the_driver_in_python_reads_the_same(ran):
    image, path, memory = ran
    read = Image.load(path)
    names = [*coded(image), "layer 0 bf16"]
    for name in names:
        assert np.allclose(read.values(name, Bytes(memory)), image.values(name, memory),
                           rtol=1e-6, atol=0), name
    index = next(t.name for t in image.tensors if t.encoding.name == "index")
    with pytest.raises(host.ImageError, match="must hold int8 or bf16"):
        read.values(index, Bytes(memory))


def test_the_driver_in_c_reads_the_same(ran, tmp_path):
    image, _, memory = ran
    names = [*coded(image)[:6], "layer 0 bf16"]
    text = c_image(image, "bert")
    labels = ["".join(c if c.isalnum() else "_" for c in name).upper() for name in names]
    shim = ['#include "ottava_driver.h"', '#include "bert.h"',
            "float value(int which, const uint8_t *memory, uint32_t row, uint32_t column) {",
            "  static const struct ottava_values all[] = {",
            *(f"    BERT_RESULT_{label}," for label in labels), "  };",
            "  return ottava_value(&all[which], memory, row, column);", "}"]
    for name, content in {"ottava.h": register_map("h", CONFIG), "bert.h": text,
                          "ottava_driver.h": driver(CONFIG), "shim.c": "\n".join(shim)}.items():
        (tmp_path / name).write_text(content)
    for language in (["-x", "c++", "-std=c++11"], ["-x", "c", "-std=c99"]):
        subprocess.run(["g++", *language, "-pedantic", "-Wall", "-Wextra", "-Werror",
                        "-Wno-unused-function", "-Wno-unused-variable", "-shared", "-fPIC", "-o",
                        tmp_path / "c.so", tmp_path / "shim.c"], check=True)
    library = ctypes.CDLL(str(tmp_path / "c.so"))
    library.value.restype = ctypes.c_float
    place = memory.ctypes.data_as(ctypes.c_void_p)
    for which, name in enumerate(names):
        wanted = image.values(name, memory)
        rows, columns = wanted.shape
        found = [[library.value(which, place, row, column) for column in range(columns)]
                 for row in range(rows)]
        assert np.allclose(found, wanted, rtol=1e-6, atol=0), name


def changed(path, to, change):
    """The file with ``change`` made to the first tensor that has items, else a factor."""
    with safe_open(path, "numpy") as file:
        memory, about = file.get_tensor("memory"), json.loads(file.metadata()["ottava"])
    tensors = [t for t in about["tensors"] if "factor" in t]
    own = next((t for t in tensors if "items" in t), tensors[0])
    change(own)
    save_file({"memory": memory}, to, {"ottava": json.dumps(about)})


@pytest.mark.parametrize("told, message", [
    ({"factor": 0}, "factor of codes must be a number above 0"),
    ({"factor": -1.5}, "factor of codes must be a number above 0"),
    ({"factor": float("nan")}, "factor of codes must be a number above 0"),
    ({"factor": "1"}, "must be a number, not 1"), ({"items": 1 << 40, "items_stride": 2}, "lie in"),
    ({"items": -2, "items_stride": 2}, "items must be a whole number"),
    ({"items": 64, "items_stride": 1}, "must be "), ({"items": 64}, "description must be")])
def test_damage_is_one_line(ran, told, message, tmp_path, capsys):
    def change(own):
        if "items" in told:
            own.pop("items_stride", None)
        own.update(told)

    path = tmp_path / "damaged"
    changed(ran[1], path, change)
    with pytest.raises(ImageError, match=message) as refused:
        ProgramImage.load(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(SystemExit) as ended:
        main(["show", str(path)])
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    if message != "must be ":  # the driver reads any bytes, where they lie
        with pytest.raises(host.ImageError):
            Image.load(path)


def test_show_tells_what_codes_count(ran, capsys):
    assert main(["show", str(ran[1])]) == 0
    out = capsys.readouterr().out
    assert "a code counts 0.0" in out and "× a bf16 of its row" in out


def test_tensors_of_ones_own():
    builder = ProgramBuilder(CONFIG)
    codes = builder.constant(np.array([[1.0, -2], [3, 4]]), name="codes")
    items = builder.constant([[2.0], [0.5]], "bf16", name="items")
    builder.counts(codes, 0.25, items)
    builder.end()
    image = ProgramImage.of(builder, (codes,))
    assert np.array_equal(image.values("codes"), [[0.5, -1], [0.375, 0.5]])
    with pytest.raises(ValueError, match="items of codes must be 1 or 2, not 3"):
        builder.counts(codes, 1.0, builder.empty(3, 1, "bf16"))
    with pytest.raises(ValueError, match="must be a row or a column of bf16"):
        builder.counts(codes, 1.0, builder.empty(2, 1))
    with pytest.raises(ValueError, match="factor of codes must be a number above 0, not inf"):
        builder.counts(codes, float("inf"))
