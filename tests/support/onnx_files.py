"""ONNX files of tests: those that onnxruntime ran, and graphs written here, field by field."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tools import onnx_vectors
from tools.onnx_vectors import FOLDER

__all__ = ["FOLDER", "NAMES", "Graph", "Op", "Stored", "bert_graph", "stored"]

NAMES = sorted(path.stem for path in FOLDER.glob("*.zip"))
_TYPES = {"f": 1, "u1": 2, "i1": 3, "i4": 6, "i8": 7, "b": 9}


@dataclass(frozen=True)
class Stored:
    """A file, and what onnxruntime gave: names after the number of a run."""

    name: str
    content: bytes
    values: Mapping[str, np.ndarray]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.onnx"
        path.write_bytes(self.content)
        return path

    def runs(self):
        """Ids, segments and, last one first, the outputs of each run."""
        for number in range(2):
            own = {name[2:]: values for name, values in self.values.items()
                   if name.startswith(f"{number} ")}
            if own:
                kinds = own.get("token_type_ids")
                outputs = [values[0] for values in own.values() if values.dtype.kind == "f"]
                yield own["input_ids"][0], None if kinds is None else kinds[0], outputs[::-1]


def stored(name: str) -> Stored:
    return Stored(name, *onnx_vectors.stored(FOLDER / f"{name}.zip"))


# Protocol Buffers

def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def nested(tag: int, content: bytes | str) -> bytes:
    own = content.encode() if isinstance(content, str) else content
    return varint(tag << 3 | 2) + varint(len(own)) + own


@dataclass(frozen=True)
class Op:
    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, object] = field(default_factory=dict)
    domain: str = ""

    def encoded(self) -> bytes:
        return (b"".join(nested(1, own) for own in self.inputs)
                + b"".join(nested(2, own) for own in self.outputs)
                + nested(3, f"/{self.outputs[0]}") + nested(4, self.op)
                + b"".join(nested(5, _attribute(name, value))
                           for name, value in self.attributes.items()) + nested(7, self.domain))


def _attribute(name: str, value: object) -> bytes:
    own = nested(1, name)
    if isinstance(value, float):
        return own + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)
    if isinstance(value, int):
        return own + number(3, value) + number(20, 2)
    if isinstance(value, str):
        return own + nested(4, value) + number(20, 3)
    if isinstance(value, np.ndarray):
        return own + nested(5, _tensor("", value)) + number(20, 4)
    assert isinstance(value, list)
    return own + b"".join(number(8, item) for item in value) + number(20, 7)


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = _TYPES.get(values.dtype.kind) or _TYPES[values.dtype.str[1:]]
    return (b"".join(number(1, size) for size in values.shape) + number(2, kind)
            + nested(8, name) + nested(9, np.ascontiguousarray(values).tobytes()))


def _port(name: str, kind: int, shape: Sequence[int | str] | None) -> bytes:
    sizes = b"" if shape is None else nested(2, b"".join(nested(1, nested(2, size) if isinstance(
        size, str) else number(1, size)) for size in shape))
    return nested(1, name) + nested(2, nested(1, number(1, kind) + sizes))


@dataclass(frozen=True)
class Graph:
    """``tensors``: arrays, or bytes that are fields of a tensor besides its name."""

    ops: Sequence[Op]
    tensors: Mapping[str, np.ndarray | bytes]
    inputs: Sequence[str] = ("ids", "mask")
    outputs: Sequence[str] = ("rows",)
    shape: Sequence[int | str] | None = ("batch", "length")
    kind: int = 7
    version: int = 17

    def write(self, path: Path) -> Path:
        tensors = b"".join(nested(5, _tensor(name, own) if isinstance(own, np.ndarray)
                                  else nested(8, name) + own)
                           for name, own in self.tensors.items())
        graph = (b"".join(nested(1, own.encoded()) for own in self.ops) + nested(2, "graph")
                 + tensors + b"".join(nested(11, _port(name, self.kind, self.shape))
                                      for name in self.inputs)
                 + b"".join(nested(12, _port(name, 1, None)) for name in self.outputs))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number(1, 8) + nested(7, graph)
                         + nested(8, nested(1, "") + number(2, self.version)))
        return path

    def with_op(self, output: str, **changes: Any) -> "Graph":
        """With the node that gives ``output`` changed."""
        assert any(output in own.outputs for own in self.ops), output
        return replace(self, ops=[replace(own, **changes) if output in own.outputs else own
                                  for own in self.ops])

    def with_more(self, **tensors: np.ndarray) -> "Graph":
        return replace(self, tensors=dict(self.tensors) | tensors)

    def with_tensor(self, name: str, value: np.ndarray | bytes | None) -> "Graph":
        assert name in self.tensors, name
        return replace(self, tensors={key: own for key, own in (
            dict(self.tensors) | {name: value}).items() if own is not None})


def bert_graph(seed: int = 0, *, width: int = 8, heads: int = 2, hidden: int = 12,
               words: int = 20, positions: int = 16) -> Graph:
    """A layer of BERT whose tensors have names that say nothing: t0, t1 …"""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    ops: list[Op] = []

    def kept(values: np.ndarray) -> str:
        tensors[f"t{len(tensors)}"] = values
        return f"t{len(tensors) - 1}"

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)

    def run(op: str, output: str, *inputs: str, **attributes: object) -> str:
        ops.append(Op(op, inputs, (output,), attributes))
        return output

    def linear(output: str, x: str, inputs: int, outputs: int) -> str:
        product = run("MatMul", f"{output}_product", x, kept(normal(inputs, outputs)))
        return run("Add", output, kept(normal(outputs)), product)

    def norm(output: str, x: str) -> str:
        return run("LayerNormalization", output, x, kept(1 + normal(width)), kept(normal(width)),
                   axis=-1, epsilon=1e-5)

    def split(output: str, x: str, order: list[int]) -> str:
        shape = kept(np.array([0, 0, heads, width // heads]))
        return run("Transpose", output, run("Reshape", f"{output}_heads", x, shape), perm=order)

    places = run("Gather", "places", kept(normal(positions, width)), run(
        "Range", "numbers", kept(np.array(0)), run("Gather", "length", run("Shape", "shape", "ids"),
                                                   kept(np.array(1))), kept(np.array(1))))
    rows = run("Gather", "words", kept(normal(words, width)), "ids")
    rows = norm("embedded", run("Add", "sum", rows, places))
    q, k, v = (split(f"{name}_split", linear(name, rows, width, width), order) for name, order in
               (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])))
    lack = run("Sub", "lack", kept(np.array(1, np.float32)), run(
        "Cast", "kept", run("Unsqueeze", "wide", "mask", kept(np.array([1, 2]))), to=1))
    scores = run("Div", "scaled", run("MatMul", "scores", q, k),
                 kept(np.array((width / heads) ** 0.5, np.float32)))
    masked = run("Add", "masked", scores, run("Mul", "hiding", lack, kept(
        np.array(-1e4, np.float32))))
    mixed = run("MatMul", "mixed", run("Softmax", "weights", masked, axis=-1), v)
    joined = run("Reshape", "joined", run("Transpose", "turned", mixed, perm=[0, 2, 1, 3]),
                 kept(np.array([0, 0, width])))
    rows = norm("attended", run("Add", "residual", linear("output", joined, width, width), rows))
    up = linear("up", rows, width, hidden)
    half = run("Mul", "half", run("Add", "one", run("Erf", "erf", run(
        "Div", "root", up, kept(np.array(2 ** 0.5, np.float32)))), kept(np.array(1, np.float32))),
        kept(np.array(0.5, np.float32)))
    down = linear("down", run("Mul", "gelu", up, half), hidden, width)
    norm("rows", run("Add", "second", rows, down))
    return Graph(ops, tensors)
