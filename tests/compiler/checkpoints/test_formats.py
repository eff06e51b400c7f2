"""Files of tensors: one, several with an index, and PyTorch's own, which is never run."""

import io
import json
import pickle
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError, finite
from compiler.checkpoints.pickled import Pickled
from compiler.checkpoints.reference import forward
from support.families import stored

IDS = np.array([3, 17, 29, 5])


@pytest.fixture
def folder(tmp_path):
    return stored("bert").write(tmp_path / "bert")


def output(path):
    return forward(load(path), IDS).output


class Storage:
    def __init__(self, kind, key, items):
        self.pid = ("storage", kind, key, "cpu", items)


class Writer(pickle.Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None


@pytest.fixture
def torch_names(monkeypatch):
    """Modules that have the names which torch's pickles ask for."""
    names = types.SimpleNamespace()
    for module, made in (("torch", ("FloatStorage", "LongStorage", "HalfStorage")),
                         ("torch._utils", ("_rebuild_tensor_v2",))):
        fake = types.ModuleType(module)
        for name in made:
            value = type(name, (), {"__module__": module}) if name.endswith("Storage") else (
                lambda *_: None)
            if not name.endswith("Storage"):
                value.__module__, value.__qualname__ = module, name
            setattr(fake, name, value)
            setattr(names, name.strip("_"), value)
        monkeypatch.setitem(sys.modules, module, fake)
    return names


class Call:
    """Anything that a pickle can be made to call, as torch's are to make a tensor."""

    def __init__(self, made, *arguments):
        self.made, self.arguments = made, arguments

    def __reduce__(self):
        return self.made, self.arguments


def write_bin(path, names, tensors, change=lambda values: values, members=lambda given: given,
              **archive):
    """``tensors`` in torch's file; ``change`` gets the dict that is pickled, ``members`` the
    archive's contents."""
    values, content = OrderedDict(), {}
    for index, (name, array) in enumerate(tensors.items()):
        kind = {"f": names.FloatStorage, "e": names.HalfStorage, "l": names.LongStorage}[
            array.dtype.char]
        content[f"archive/data/{index}"] = np.ascontiguousarray(array).tobytes()
        strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
        values[name] = Call(names.rebuild_tensor_v2, Storage(kind, str(index), array.size), 0,
                              array.shape, strides, False, OrderedDict())
    buffer = io.BytesIO()
    Writer(buffer, 2).dump(change(values))
    content = members({"archive/data.pkl": buffer.getvalue(), "archive/byteorder": b"little",
                       **content})
    with zipfile.ZipFile(path, "w", **archive) as file:
        for name, value in content.items():
            file.writestr(name, value)
    return path


def test_shards_are_the_same_model(folder):
    wanted, tensors = output(folder), load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-{index % 3}.safetensors" for index, name in enumerate(sorted(tensors))}
    for file in sorted(set(places.values())):
        save_file({name: tensors[name] for name, place in places.items() if place == file},
                  folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert np.array_equal(output(folder), wanted)
    name = sorted(tensors)[0]
    for weight_map, message in (
            ({}, "weight_map must name a file for each tensor, not {}"),
            ({name: "../x.safetensors"}, r"files must lie next to the index, not at '../x"),
            ({name: "x.safetensors"}, "x.safetensors must be a whole safetensors file"),
            ({name: 3}, "weight_map must name a file for each tensor"),
            (places | {name: "model-1.safetensors"}, f"tensor {name} must be in model-1"),
            ({name: place for name, place in places.items() if "word" not in name},
             "tensor embeddings.word_embeddings.weight of model-1.safetensors is not in")):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(CheckpointError, match=message) as error:
            load(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind, near", [(np.float32, 0), (np.float16, 2e-2)])
def test_a_file_of_torch_is_the_same_model(folder, torch_names, kind, near):
    wanted, tensors = output(folder), load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    ids = np.arange(24, dtype=np.int64)[None]
    write_bin(folder / "pytorch_model.bin", torch_names,
              {name: array.astype(kind) for name, array in tensors.items()}
              | {"embeddings.position_ids": ids})
    assert np.abs(output(folder) - wanted).max() <= near


def test_a_tensor_that_is_a_view_of_another(tmp_path, torch_names):
    def transposed(values):
        storage = values["a"].arguments[0]
        values["b"] = Call(torch_names.rebuild_tensor_v2, storage, 1, (3, 2), (1, 6), False,
                             OrderedDict())
        return values

    array = np.arange(12, dtype=np.float32).reshape(2, 6)
    file = Pickled(write_bin(tmp_path / "x.bin", torch_names, {"a": array}, transposed))
    assert file.shapes == {"a": (2, 6), "b": (3, 2)}
    assert np.array_equal(file.load("b"), array[:, 1:4].T)


CALLED = []


def changed(**fields):
    """The first tensor with some of its numbers changed."""
    def change(values):
        first = values["a"]
        given = dict(zip(("storage", "offset", "shape", "strides"), first.arguments, strict=False))
        first.arguments = (*(given | fields).values(), False, OrderedDict())
        return values
    return change


@pytest.mark.parametrize("change, message", [
    (lambda values: values | {"x": Call(CALLED.append, 1)}, "it asks for __builtin__.getattr"),
    (lambda values: values | {"x": Call(eval, "CALLED.append(1)")}, "it asks for __builtin__.eval"),
    (lambda values: values | {"x": Call(__import__("os").system, "true")}, "it asks for .*system"),
    (lambda values: values | {"x": 3}, "tensors by name alone, not 'x' of type int"),
    (lambda values: values | {"x": {"y": values["a"]}}, "not 'x' of type dict"),
    (lambda values: values | {3: values["a"]}, "by name alone, not 3"),
    (lambda values: [values], "tensors by name, not list"),
    (lambda values: {}, "tensors by name, not dict"),
    (changed(offset=1), "a tensor must lie inside its storage of 6 items"),
    (changed(shape=(2, 4)), "a tensor must lie inside its storage"),
    (changed(strides=(3, 2)), "a tensor must lie inside its storage"),
    (changed(strides=(3,)), "must be made of a storage, a place, a shape and strides"),
    (changed(strides=(-3, 1)), "whole numbers of at least 0"),
    (changed(shape=(2.0, 3)), "whole numbers of at least 0"),
    (changed(shape=(1 << 40, 3), strides=(0, 1)), "inside its storage"),
    (changed(offset=1 << 70), "inside its storage"),
    (changed(storage="x"), "must be made of a storage"),
])
def test_what_a_pickle_may_not_say_is_one_line(tmp_path, torch_names, change, message):
    path = write_bin(tmp_path / "x.bin", torch_names, {"a": np.ones((2, 3), np.float32)}, change)
    with pytest.raises(CheckpointError, match=message) as error:
        Pickled(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not CALLED


@pytest.mark.parametrize("members, message", [
    (lambda given: given | {"archive/data/0": b"1234"}, "storage of a must be of 24 bytes, not 4"),
    (lambda given: given | {"archive/byteorder": b"big"}, "low byte first"),
    (lambda given: {key: value for key, value in given.items() if "data/0" not in key},
     "There is no item named 'archive/data/0'"),
    (lambda given: {key: value for key, value in given.items() if "pkl" not in key},
     "must hold one data.pkl"),
    (lambda given: given | {"other/data.pkl": b"."}, "must hold one data.pkl"),
    (lambda given: given | {"archive/data.pkl": b"(" * 100}, "as torch.save writes it"),
    (lambda given: given | {"archive/data.pkl": bytes(20 << 20)}, "data.pkl must be of at most"),
])
def test_a_damaged_archive_is_one_line(tmp_path, torch_names, members, message):
    path = write_bin(tmp_path / "x.bin", torch_names, {"a": np.ones((2, 3), np.float32)},
                     members=members)
    with pytest.raises(CheckpointError, match=message) as error:
        Pickled(path)
    assert "\n" not in str(error.value)


def test_a_member_that_is_encrypted_is_one_line(tmp_path, torch_names):
    path = write_bin(tmp_path / "x.bin", torch_names, {"a": np.ones(6, np.float32)})
    content = path.read_bytes()
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content = b"".join(start + part[:flags - 4] + bytes([part[flags - 4] | 1])
                           + part[flags - 3:] if index else part
                           for index, part in enumerate(content.split(start)))
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="as torch.save writes it: .* encrypted"):
        Pickled(path)


def test_other_files_of_torch_are_one_line(tmp_path, torch_names):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes.fromhex("80028a0a6cfc9c46f920") + bytes(100))
    with pytest.raises(CheckpointError, match="of the form from before PyTorch 1.6"):
        Pickled(path)
    write_bin(path, torch_names, {"a": np.ones(6, np.float32)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="stored as they are"):
        Pickled(path)
    write_bin(path, torch_names, {"a": np.ones(6, np.int64)})
    with pytest.raises(CheckpointError, match="tensor a must be of type FloatStorage, .* not Long"):
        Pickled(path).load("a")


def test_damaged_bytes_are_one_line_or_harmless(tmp_path, torch_names):
    path = write_bin(tmp_path / "x.bin", torch_names,
                     {name: np.ones((2, 3), np.float32) for name in "abc"})
    content, rng, refused = path.read_bytes(), np.random.default_rng(3), 0
    damaged = [content[:size] for size in range(0, len(content), 29)]
    for _ in range(200):
        one = bytearray(content)
        one[rng.integers(len(content))] = rng.integers(256)
        damaged.append(bytes(one))
    for one in damaged:
        path.write_bytes(one)
        try:
            file = Pickled(path)
            assert all(file.load(name).size < 100 for name in file.shapes)
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    print(f"{len(damaged)} files, {refused} refused")
    assert len(damaged) > 230 and refused > 100


def test_a_folder_without_tensors_says_what_it_holds(folder):
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    with pytest.raises(CheckpointError, match=r"must hold model.safetensors or pytorch_model.bin, "
                                              r"the index .*, or model.onnx, not tf_model.h5$"):
        load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_are_finite_or_refused_without_memory_beside_them(value):
    values = np.zeros((1024, 1024), np.float32)
    tracemalloc.start()
    try:
        assert finite(Path("own"), "w", values) is values
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 100
    finally:
        tracemalloc.stop()
    values[5, 7] = value
    with pytest.raises(CheckpointError, match=f"own: tensor w must be finite in fp32, but holds "
                                              f"{value}$"):
        finite(Path("own"), "w", values)


def test_a_tensor_of_nothing_is_finite():
    assert finite(Path("own"), "w", np.zeros((0, 4), np.float32)).size == 0
