"""Files of users, damaged or odd: more than two hundred, each with what reads it.

Every one is to be refused in one line, or read right where it is odd and no more (``read``).
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert as sample
from compiler.lowering.lower import lower
from compiler.training.adapters import AdapterSet, save_adapters
from compiler.training.gradients.weights import Adapter
from hdl.spec.config import AcceleratorConfig

__all__ = ["Damage", "damages", "sound_files"]

Change = Callable[[Path], None]
Edit = Callable[[dict], object]
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Damage:
    """``change`` spoils the copy of a sound file or folder of ``kind``; ``read``: it is odd alone,
    and read all the same."""

    name: str
    kind: str
    change: Change
    read: bool = False


def sound_files(folder: Path, bert: Path, llama: Path, gguf: Path) -> dict[str, Path]:
    """What is spoiled, by kind; a model's image beside checkpoints."""
    program = lower(AcceleratorConfig("posit8", dim=4), sample(), Inputs("ids", np.arange(6)[None]))
    program.image.save(folder / "image.ottava")
    rng = np.random.default_rng(1)
    save_adapters(folder / "adapter", load(bert), AdapterSet({"blocks.0.query": Adapter(
        rng.normal(0, 1, (2, 8)), rng.normal(0, 1, (8, 2)), 0.5)}))
    return {"bert": bert, "llama": llama, "gguf": gguf, "image": folder / "image.ottava",
            "adapter": folder / "adapter", "shards": _in_parts(bert, folder / "shards")}


def _in_parts(source: Path, folder: Path) -> Path:
    """The same checkpoint in two files with an index."""
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    found = load_file(source / "model.safetensors")
    places: dict[str, str] = {}
    for part, names in enumerate((sorted(found)[::2], sorted(found)[1::2])):
        save_file({name: found[name] for name in names}, folder / f"part-{part}.safetensors")
        places |= dict.fromkeys(names, f"part-{part}.safetensors")
    (folder / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def copied(source: Path, target: Path) -> Path:
    target = target / source.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return target


# Changes

def settings(**values: object) -> Change:
    """Of ``config.json``; ``...`` leaves one out."""
    def change(folder: Path) -> None:
        path = folder / "config.json"
        told = json.loads(path.read_text()) | values
        path.write_text(json.dumps({name: value for name, value in told.items()
                                    if value is not ...}))
    return change


def content(name: str, text: str | bytes) -> Change:
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return change


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def replaced_by_folder(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
    return change


def tensors(edit: Callable[[dict[str, np.ndarray]], object]) -> Change:
    """Of ``model.safetensors``."""
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        found = dict(load_file(path))
        edit(found)
        save_file(found, path)
    return change


def cut(name: str, share: float) -> Change:
    """The file's first part alone."""
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        data = path.read_bytes()
        path.write_bytes(data[:int(len(data) * share)])
    return change


def header(edit: Edit, name: str = "model.safetensors") -> Change:
    """Of a safetensors file, whatever its data."""
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        data = path.read_bytes()
        size, = struct.unpack("<Q", data[:8])
        told = json.loads(data[8:8 + size])
        edited = edit(told)
        text = json.dumps(told if edited is None else edited).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
    return change


def raw(edit: Callable[[bytearray], Any], name: str = "model.safetensors") -> Change:
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        data = bytearray(path.read_bytes())
        edited = edit(data)
        path.write_bytes(data if edited is None else edited)
    return change


def field(name: bytes, value: bytes, at: int = 4) -> Change:
    """Bytes ``at`` after a setting's or tensor's name in a GGUF file."""
    def edit(data: bytearray) -> None:
        start = data.index(name) + len(name) + at
        data[start:start + len(value)] = value
    return raw(edit)


def _longer_header(data: bytearray) -> None:
    size, = struct.unpack("<Q", data[:8])
    data[:8] = struct.pack("<Q", size + 1)


def _without(name: str, told: dict) -> None:
    told.pop(name)


def about(edit: Edit) -> Change:
    """The description of a program image."""
    def both(told: dict) -> None:
        own = json.loads(told["__metadata__"]["ottava"])
        edited = edit(own)
        told["__metadata__"]["ottava"] = json.dumps(own if edited is None else edited)
    return header(both)


def _one(number: int, **values: object) -> Edit:
    return lambda told: told["tensors"][number].update(values)


def update(**values: object) -> Edit:
    return lambda told: told.update(values)


def inner(name: str, **values: object) -> Edit:
    """Of an object inside."""
    return lambda told: told[name].update(values)


def put(first: int, last: int | None, value: bytes) -> Callable[[bytearray], object]:
    return lambda data: data.__setitem__(slice(first, last), value)


# The set

_ODD_NUMBERS = {"text": "7", "none below": 0, "negative": -3, "half": 2.5, "huge": 10 ** 15,
                "digits": 10 ** 4000, "list": [1], "object": {}, "true": True, "nan": float("nan"),
                "infinite": float("inf"), "empty": ""}
_COUNTS = {"bert": ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size",
                    "vocab_size", "max_position_embeddings"),
           "llama": ("num_key_value_heads", "head_dim")}
_DEEP = "[" * 100_000
_NESTED = '{"a":' * 400 + "1" + "}" * 400


def damages() -> list[Damage]:
    return [Damage(f"{kind}: {name}", kind, change, read)
            for kind, part in (("bert", _settings("bert")), ("llama", _settings("llama")),
                               ("bert", _configs()), ("bert", _safetensors()),
                               ("bert", _tokenizers()), ("bert", _modules()), ("gguf", _ggufs()),
                               ("image", _images()), ("adapter", _adapters()),
                               ("shards", _shards()))
            for name, change, read in ((*entry, False)[:3] for entry in part)]


Entries = Iterator[tuple]


def _settings(kind: str) -> Entries:
    for name in _COUNTS[kind]:
        for what, value in _ODD_NUMBERS.items():
            yield f"{name} {what}", settings(**{name: value})
    for name in ("rms_norm_eps",) if kind == "llama" else ("layer_norm_eps",):
        for what in ("text", "negative", "nan", "infinite", "list"):
            yield f"{name} {what}", settings(**{name: _ODD_NUMBERS[what]})


def _configs() -> Entries:
    yield "no config", removed("config.json")
    yield "config is a folder", replaced_by_folder("config.json")
    yield "model_type text", settings(model_type="unheard-of")
    yield "model_type list", settings(model_type=["bert"])
    yield "model_type deep", settings(model_type=json.loads(_NESTED))
    yield "model_type long", settings(model_type="x" * 1_000_000)
    yield "no model_type", settings(model_type=...)
    yield "architectures number", settings(architectures=3)
    yield "architectures deep", settings(architectures=json.loads(_NESTED))
    yield "activation unheard of", settings(hidden_act="unheard-of")
    yield "activation list", settings(hidden_act=["gelu"])
    yield "activation deep", settings(hidden_act=json.loads(_NESTED))
    yield "relative positions", settings(position_embedding_type="relative_key")
    yield "decoder", settings(is_decoder=True)
    for what, text in (
            ("empty", ""), ("no JSON", "hidden_size: 8"), ("a list", "[]"), ("a number", "5"),
            ("null", "null"), ("deep", _DEEP), ("deep in an object", '{"a":' + _DEEP),
            ("deep objects", '{"a":' * 100_000), ("not UTF-8", b'{"a": "\xff"}'),
            ("UTF-16", '{"model_type": "bert"}'.encode("utf-16")), ("bytes of zero", bytes(1000)),
            ("cut", '{"model_type": "bert", "hidden'), ("many digits", '{"a": ' + "9" * 5000 + "}"),
            ("large", '{"a": "' + "x" * 70_000_000 + '"}'),
            ("a name twice", '{"model_type": "bert", "model_type": "bert"}')):
        yield f"config {what}", content("config.json", text)


def _safetensors() -> Entries:
    first = "embeddings.word_embeddings.weight"
    yield "no tensors", removed("model.safetensors")
    yield "tensors are a folder", replaced_by_folder("model.safetensors")
    yield "empty", content("model.safetensors", b"")
    yield "text", content("model.safetensors", "no tensors at all")
    for share in (0.001, 0.01, 0.3, 0.6, 0.9, 0.99, 0.9999):
        yield f"cut at {share}", cut("model.safetensors", share)
    for what, size in (("0", 0), ("beyond the file", 10 ** 9), ("of 2^63", 1 << 63),
                       ("of 2^64 - 1", (1 << 64) - 1)):
        yield f"header {what}", raw(put(0, 8, struct.pack("<Q", size)))
    yield "header one more", raw(_longer_header)
    for what, change in (
            ("dtype unheard of", {"dtype": "F12"}), ("dtype I64", {"dtype": "I64"}),
            ("shape larger", {"shape": [31, 8]}), ("shape negative", {"shape": [-30, 8]}),
            ("shape of text", {"shape": ["30", 8]}), ("shape huge", {"shape": [1 << 62, 1 << 62]}),
            ("shape flat", {"shape": [240]}), ("offsets swapped", {"data_offsets": [960, 0]}),
            ("offsets beyond", {"data_offsets": [0, 1 << 40]}),
            ("offsets overlap", {"data_offsets": [4, 964]}),
            ("offsets none", {"data_offsets": []})):
        yield what, header(inner(first, **change))
    yield "a tensor that is no object", header(lambda told: told.update({first: 5}))
    yield "header a list", header(lambda told: list(told))
    yield "header empty", header(lambda told: {})
    yield "metadata a number", header(lambda told: told.update(__metadata__=5))
    yield "two tensors on one another", header(
        lambda told: told[first].update(data_offsets=told[_second(told, first)]["data_offsets"]))
    for what, edit in (
            ("one missing", lambda found: found.pop(first)),
            ("one too many", lambda found: found.update(extra=np.ones(3, np.float32))),
            ("whole numbers", lambda found: found.update({first: np.ones((30, 8), np.int32)})),
            ("flags", lambda found: found.update({first: np.ones((30, 8), bool)})),
            ("transposed", lambda found: found.update({first: np.ones((8, 30), np.float32)})),
            ("three sizes", lambda found: found.update({first: np.ones((1, 30, 8), np.float32)})),
            ("none of it", lambda found: found.update({first: np.ones((0, 8), np.float32)})),
            ("NaN", lambda found: found[first].__setitem__((3, 4), np.nan)),
            ("infinite", lambda found: found[first].__setitem__((3, 4), np.inf)),
            ("NaN in a layer", lambda found: found[_layer(found)].__setitem__(0, np.nan)),
            ("beyond fp32", lambda found: found.update(
                {first: np.full((30, 8), 1e300, np.float64)}))):
        yield f"tensors: {what}", tensors(edit)
    yield "an adapter beside it", content("adapter_config.json", "{}"), True


def _second(told: dict, first: str) -> str:
    return next(name for name in told if name not in (first, "__metadata__")
                and told[name]["shape"] == [20])


def _layer(found: dict) -> str:
    return next(name for name in found if "layer.1" in name and found[name].ndim == 1)


def _tokenizers() -> Entries:
    sound = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1},
                                                    "unk_token": "a"}})
    for what, text in (
            ("empty", ""), ("text", "no JSON"), ("a list", "[]"), ("deep", _DEEP),
            ("deep objects", '{"model":' * 100_000), ("not UTF-8", b'{"version": "\xff"}'),
            ("cut", sound[:-20]), ("no model", '{"version": "1.0"}'),
            ("unheard-of model", sound.replace("WordLevel", "Magic")),
            ("vocab a list", sound.replace('{"a": 0, "b": 1}', "[1, 2]")),
            ("ids of text", sound.replace('"a": 0', '"a": "0"')),
            ("ids negative", sound.replace('"a": 0', '"a": -1')),
            ("ids huge", sound.replace('"a": 0', '"a": 99999999999')),
            ("merges of unknown words", json.dumps({"version": "1.0", "model": {
                "type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}})),
            ("merges of numbers", json.dumps({"version": "1.0", "model": {
                "type": "BPE", "vocab": {"a": 0}, "merges": [1, 2]}})),
            ("a broken pattern", json.dumps({"version": "1.0", "pre_tokenizer": {
                "type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
                "invert": False}, "model": json.loads(sound)["model"]}))):
        yield f"tokenizer {what}", content("tokenizer.json", text)
    yield "no tokenizer", removed("tokenizer.json")


def _modules() -> Entries:
    pooling = json.dumps([{"type": "sentence_transformers.models.Transformer", "path": ""},
                          {"type": "sentence_transformers.models.Pooling", "path": "1"}])
    for what, text in (
            ("empty", ""), ("deep", _DEEP), ("deep in a list", "[" + '{"type":' * 300 + "1"
                                             + "}" * 300 + "]"), ("an object", "{}"),
            ("numbers", "[1, 2]"), ("no types", "[{}]"), ("types of numbers", '[{"type": 5}]'),
            ("unheard of", '[{"type": "x.Magic"}]'), ("pooling without its folder", pooling),
            ("a path outside", pooling.replace('"1"', '"../../../../../nowhere"')),
            ("a path of numbers", pooling.replace('"1"', "5"))):
        yield f"modules {what}", content("modules.json", text)
    for what, text in (("deep", _DEEP), ("without a mode", "{}"),
                       ("with an unheard-of mode", '{"pooling_mode": "magic"}'),
                       ("with a mode of numbers", '{"pooling_mode": 5}'),
                       ("with two modes", '{"pooling_mode_mean_tokens": true, '
                        '"pooling_mode_cls_token": true}')):
        def change(folder: Path, text: str = text) -> None:
            (folder / "1").mkdir()
            (folder / "1" / "config.json").write_text(text)
            (folder / "modules.json").write_text(pooling)
        yield f"pooling {what}", change


def _ggufs() -> Entries:
    yield "empty", content("", b"")
    yield "text", content("", "no tensors at all")
    yield "magic alone", content("", b"GGUF")
    yield "other magic", raw(lambda data: data.__setitem__(slice(0, 4), b"GGML"))
    for share in (0.001, 0.01, 0.02, 0.05, 0.3, 0.6, 0.9, 0.99, 0.9999):
        yield f"cut at {share}", cut("", share)
    for version in (0, 1, 4, 1 << 24, 3 << 24, (1 << 32) - 1):
        yield f"version {version}", raw(put(4, 8, struct.pack("<I", version)))
    for what, at in (("tensors", 8), ("settings", 16)):
        for count in (0, 1, 10 ** 6, 1 << 40, (1 << 64) - 1):
            yield f"{count} {what}", raw(put(at, at + 8, struct.pack("<Q", count)))
    yield "name of 2^40 bytes", raw(lambda data: data.__setitem__(
        slice(24, 32), struct.pack("<Q", 1 << 40)))
    key = b"llama.embedding_length"
    yield "type unheard of", field(key, struct.pack("<I", 99), 0)
    yield "type text", field(key, struct.pack("<I", 8), 0)
    yield "type array", field(key, struct.pack("<I", 9), 0)
    yield "width 0", field(key, struct.pack("<I", 0))
    yield "width of 2^32 - 1", field(key, struct.pack("<I", (1 << 32) - 1))
    yield "heads not a divisor", field(b"llama.attention.head_count", struct.pack("<I", 5))
    yield "eps NaN", field(b"llama.attention.layer_norm_rms_epsilon", struct.pack("<f", np.nan))
    yield "layers of 2^32 - 1", field(b"llama.block_count", struct.pack("<I", (1 << 32) - 1))
    yield "name not UTF-8", raw(lambda data: data.__setitem__(
        slice(data.index(key), data.index(key) + 2), b"\xff\xfe"))
    name = b"blk.0.ffn_up.weight"
    yield "no sizes", field(name, struct.pack("<I", 0), 0)
    yield "a million sizes", field(name, struct.pack("<I", 1_000_000), 0)
    yield "size 0", field(name, struct.pack("<Q", 0))
    yield "size of 2^63", field(name, struct.pack("<Q", 1 << 63))
    yield "size of 2^64 - 1", field(name, struct.pack("<Q", (1 << 64) - 1))
    yield "sizes swapped", field(name, struct.pack("<QQ", 64, 32))
    yield "kind unheard of", field(name, struct.pack("<I", 250), 20)
    yield "kind I32", field(name, struct.pack("<I", 26), 20)
    yield "kind without a reader", field(name, struct.pack("<I", 15), 20)
    yield "place beyond", field(name, struct.pack("<Q", 1 << 40), 24)
    yield "place of 2^64 - 32", field(name, struct.pack("<Q", (1 << 64) - 32), 24)
    yield "place odd", field(name, struct.pack("<Q", 33), 24)
    yield "on another tensor", field(name, struct.pack("<Q", 0), 24)
    yield "a tensor twice", raw(lambda data: data.__setitem__(
        slice(data.index(name), data.index(name) + len(name)), b"blk.1.ffn_up.weight"))
    yield "a name of none", raw(lambda data: data.__setitem__(
        slice(data.index(name), data.index(name) + len(name)), b"blk.9.ffn_up.weight"))
    yield "NaN", raw(lambda data: data.__setitem__(slice(-4, None), struct.pack("<f", np.nan)))
    yield "a long array", raw(_long_array)
    yield "arrays in arrays", raw(_arrays_in_arrays)


def _with_setting(data: bytearray, name: bytes, kind: int, value: bytes) -> bytes:
    count, = struct.unpack("<Q", data[16:24])
    own = struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value
    return bytes(data[:16] + struct.pack("<Q", count + 1) + own + data[24:])


def _long_array(data: bytearray) -> bytes:
    """A megabyte of settings: sound, but for the tensors' places, which move by what is no multiple
    of the alignment."""
    return _with_setting(data, b"a.long.array", 9, struct.pack("<IQ", 0, 1_000_001)
                         + bytes(1_000_001))[:-1]


def _arrays_in_arrays(data: bytearray) -> bytes:
    value = struct.pack("<IQ", 9, 1) * 5000 + struct.pack("<IQ", 0, 1) + b"\0"
    return _with_setting(data, b"deep", 9, value)


def _images() -> Entries:
    yield "empty", content("", b"")
    yield "text", content("", "no image at all")
    for share in (0.001, 0.1, 0.5, 0.9, 0.9999):
        yield f"cut at {share}", cut("", share)
    yield "a byte of memory", raw(lambda data: data.__setitem__(-300, data[-300] ^ 1))
    yield "no description", header(lambda told: told.pop("__metadata__"))
    yield "another key", header(lambda told: told.update(__metadata__={"other": "1"}))
    for what, text in (("text", "no JSON"), ("deep", _DEEP), ("a list", "[]"), ("null", "null"),
                       ("deep objects", '{"a":' * 100_000)):
        yield f"description {what}", header(update(__metadata__={"ottava": text}))
    value: object
    for name in ("version", "base", "program", "config", "config_hash", "tensors", "results",
                 "crc32"):
        yield f"no {name}", about(partial(_without, name))
        for what, value in (("text", "x"), ("negative", -64), ("list", [[]]), ("null", None),
                            ("half", 0.5), ("huge", 1 << 70)):
            yield f"{name} {what}", about(update(**{name: value}))
    for name in ("address", "rows", "columns", "stride", "encoding", "name"):
        for what, value in (("text", "x"), ("negative", -1), ("list", [1]), ("huge", 1 << 66)):
            if (name, what) != ("name", "text"):
                yield f"tensor's {name} {what}", about(_one(1, **{name: value}))
    for name, value in (("dim", "4"), ("dim", 5), ("dim", 1 << 40), ("fmt", "posit9"),
                        ("fmt", ["posit8"]), ("lanes", "4"), ("acc", 3), ("unheard", 1)):
        yield f"config {name} {value}", about(inner("config", **{name: value}))


def edited(name: str, edit: Edit) -> Change:
    """Of a JSON file."""
    def change(folder: Path) -> None:
        told = json.loads((folder / name).read_text())
        edited = edit(told)
        (folder / name).write_text(json.dumps(told if edited is None else edited))
    return change


def _adapters() -> Entries:
    config, file = "adapter_config.json", "adapter_model.safetensors"
    yield "no config", removed(config)
    yield "no tensors", removed(file)
    for what, text in (("empty", ""), ("a list", "[]"), ("deep", _DEEP), ("cut", '{"r": 2, "lo')):
        yield f"config {what}", content(config, text)
    for name, values in (("r", ("2", 0, 3, 1 << 60, [2])), ("lora_alpha", ("1", -1, [1], None)),
                         ("peft_type", ("MAGIC", 5)), ("bias", ("all", 1)),
                         ("use_dora", (True, "yes")), ("rank_pattern", ({"a": 4}, [1])),
                         ("fan_in_fan_out", (True,)), ("use_rslora", ("yes",))):
        for value in values:
            yield f"{name} {value}", edited(config, update(**{name: value}))
    for share in (0.01, 0.5, 0.99):
        yield f"cut at {share}", cut(file, share)
    yield "text", content(file, "no tensors at all")
    for what, edit in (
            ("half a pair", lambda found: found.pop(sorted(found)[0])),
            ("none", dict.clear), ("NaN", lambda found: found[sorted(found)[0]].fill(np.nan)),
            ("another layer", lambda found: found.update({name.replace("layer.0", "layer.7"):
                                                          found.pop(name) for name in [*found]})),
            ("another shape", lambda found: found.update(dict.fromkeys(
                found, np.ones((3, 3), np.float32)))),
            ("one too many", lambda found: found.update(extra=np.ones(3, np.float32))),
            ("a row", lambda found: found.update({sorted(found)[0]: np.ones(8, np.float32)}))):
        yield f"tensors: {what}", _adapter_tensors(file, edit)


def _adapter_tensors(name: str, edit: Callable[[dict[str, np.ndarray]], object]) -> Change:
    def change(folder: Path) -> None:
        found = dict(load_file(folder / name))
        edit(found)
        save_file(found, folder / name, {"format": "pt", "pooling": "none"})
    return change


def _shards() -> Entries:
    for what, text in (("empty", ""), ("deep", _DEEP), ("a list", "[]"), ("no map", "{}")):
        yield f"index {what}", content(_INDEX, text)
    first = "embeddings.word_embeddings.weight"
    for what, value in (("a list", []), ("numbers", {first: 5}), ("none", {}),
                        ("a path above", {first: "../part-0.safetensors"}),
                        ("an absolute path", {first: "/etc/passwd"}),
                        ("a file that is not there", {first: "part-9.safetensors"})):
        yield f"map of {what}", edited(_INDEX, update(weight_map=value))
    yield "a tensor less in the map", edited(_INDEX, lambda told: told["weight_map"].pop(first))
    yield "a tensor more in the map", edited(_INDEX, lambda told: told["weight_map"].update(
        extra="part-0.safetensors"))
    yield "a tensor in the other file", edited(_INDEX, lambda told: told["weight_map"].update(
        {first: "part-0.safetensors" if told["weight_map"][first].startswith("part-1")
         else "part-1.safetensors"}))
    yield "a file less", removed("part-1.safetensors")
    yield "a file cut", cut("part-1.safetensors", 0.5)
