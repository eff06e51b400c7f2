"""Damaged settings, tensors, tokenizers and modules of a folder."""

import json
import struct
from pathlib import Path

import numpy as np

from .changes import (
    DEEP,
    Change,
    Entries,
    content,
    cut,
    header,
    inner,
    put,
    raw,
    removed,
    replaced_by_folder,
    tensors,
)

__all__ = ["configs", "counts", "modules", "safetensors", "tokenizers"]


_ODD_NUMBERS = {"text": "7", "none below": 0, "negative": -3, "half": 2.5, "huge": 10 ** 15,
                "digits": 10 ** 4000, "list": [1], "object": {}, "true": True, "nan": float("nan"),
                "infinite": float("inf"), "empty": ""}
_COUNTS = {"bert": ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size",
                    "vocab_size", "max_position_embeddings"),
           "llama": ("num_key_value_heads", "head_dim")}
_NESTED = '{"a":' * 400 + "1" + "}" * 400


def settings(**values: object) -> Change:
    """Of ``config.json``; ``...`` leaves one out."""
    def change(folder: Path) -> None:
        path = folder / "config.json"
        told = json.loads(path.read_text()) | values
        path.write_text(json.dumps({name: value for name, value in told.items()
                                    if value is not ...}))
    return change


def counts(kind: str) -> Entries:
    for name in _COUNTS[kind]:
        for what, value in _ODD_NUMBERS.items():
            yield f"{name} {what}", settings(**{name: value})
    for name in ("rms_norm_eps",) if kind == "llama" else ("layer_norm_eps",):
        for what in ("text", "negative", "nan", "infinite", "list"):
            yield f"{name} {what}", settings(**{name: _ODD_NUMBERS[what]})


def configs() -> Entries:
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
            ("null", "null"), ("deep", DEEP), ("deep in an object", '{"a":' + DEEP),
            ("deep objects", '{"a":' * 100_000), ("not UTF-8", b'{"a": "\xff"}'),
            ("UTF-16", '{"model_type": "bert"}'.encode("utf-16")), ("bytes of zero", bytes(1000)),
            ("cut", '{"model_type": "bert", "hidden'), ("many digits", '{"a": ' + "9" * 5000 + "}"),
            ("large", '{"a": "' + "x" * 70_000_000 + '"}'),
            ("a name twice", '{"model_type": "bert", "model_type": "bert"}')):
        yield f"config {what}", content("config.json", text)


def safetensors() -> Entries:
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


def tokenizers() -> Entries:
    sound = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1},
                                                    "unk_token": "a"}})
    for what, text in (
            ("empty", ""), ("text", "no JSON"), ("a list", "[]"), ("deep", DEEP),
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


def modules() -> Entries:
    pooling = json.dumps([{"type": "sentence_transformers.models.Transformer", "path": ""},
                          {"type": "sentence_transformers.models.Pooling", "path": "1"}])
    for what, text in (
            ("empty", ""), ("deep", DEEP), ("deep in a list", "[" + '{"type":' * 300 + "1"
                                             + "}" * 300 + "]"), ("an object", "{}"),
            ("numbers", "[1, 2]"), ("no types", "[{}]"), ("types of numbers", '[{"type": 5}]'),
            ("unheard of", '[{"type": "x.Magic"}]'), ("pooling without its folder", pooling),
            ("a path outside", pooling.replace('"1"', '"../../../../../nowhere"')),
            ("a path of numbers", pooling.replace('"1"', "5"))):
        yield f"modules {what}", content("modules.json", text)
    for what, text in (("deep", DEEP), ("without a mode", "{}"),
                       ("with an unheard-of mode", '{"pooling_mode": "magic"}'),
                       ("with a mode of numbers", '{"pooling_mode": 5}'),
                       ("with two modes", '{"pooling_mode_mean_tokens": true, '
                        '"pooling_mode_cls_token": true}')):
        def change(folder: Path, text: str = text) -> None:
            (folder / "1").mkdir()
            (folder / "1" / "config.json").write_text(text)
            (folder / "modules.json").write_text(pooling)
        yield f"pooling {what}", change


def _longer_header(data: bytearray) -> None:
    size, = struct.unpack("<Q", data[:8])
    data[:8] = struct.pack("<Q", size + 1)
