"""Damaged ONNX files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..onnx_files import Graph, Op, bert_graph, nested, number
from .changes import Change, Entries, content, cut, put, raw

__all__ = ["onnx_files", "write_sound"]

OUTSIDE = b"".join([number(1, 20), number(1, 8), number(2, 1)])


def write_sound(path: Path) -> Path:
    return bert_graph().write(path)


def graph(change: Callable[[Graph], Graph]) -> Change:
    def changed(path: Path) -> None:
        change(bert_graph()).write(path)
    return changed


def tensor(name: str, value: np.ndarray | bytes | None) -> Change:
    return graph(lambda own: own.with_tensor(name, value))


def op(output: str, **changes: Any) -> Change:
    return graph(lambda own: own.with_op(output, **changes))


def placed(**entries: str) -> bytes:
    """A table of words in another file."""
    return OUTSIDE + b"".join(nested(13, nested(1, key) + nested(2, value))
                              for key, value in entries.items()) + number(14, 1)


def beside(size: int, **entries: str) -> Change:
    def change(path: Path) -> None:
        (path.parent / "beside.bin").write_bytes(bytes(size))
        bert_graph().with_tensor("t4", placed(**entries)).write(path)
    return change


def sizes(*own: int) -> bytes:
    return b"".join(number(1, size) for size in own) + number(2, 1)


def onnx_files() -> Entries:
    yield "empty", content("", b"")
    yield "text", content("", "no graph at all")
    yield "zeros", content("", bytes(1000))
    yield "ones", content("", b"\xff" * 1000)
    yield "no graph", content("", number(1, 8) + nested(8, number(2, 17)))
    yield "no operators", raw(lambda data: data[:-6])
    yield "a graph of numbers", content("", number(7, 3) + nested(8, number(2, 17)))
    for share in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        yield f"cut at {share}", cut("", share)
    for at in (0, 1, 2, 3, 4, 5, 40, 41):
        yield f"byte {at} set", raw(put(at, at + 1, b"\xff"))
    yield from _tensors()
    yield from _nodes()
    yield "a set of operators of 2^60", graph(lambda own: replace(own, version=1 << 60))
    yield "a batch of 2^40", graph(lambda own: replace(own, shape=(1 << 40, 8)))
    yield "2^40 positions", graph(lambda own: replace(own, shape=("batch", 1 << 40)))
    yield "a position", graph(lambda own: replace(own, shape=("batch", 1)))
    yield "no sizes", graph(lambda own: replace(own, shape=()))
    yield "no shapes", graph(lambda own: replace(own, shape=None))
    yield "texts as inputs", graph(lambda own: replace(own, kind=8))
    yield "no outputs", graph(lambda own: replace(own, outputs=()))


def _tensors() -> Entries:
    table = np.ones((20, 8), np.float32)
    yield "no table", tensor("t4", None)
    yield "a table of text", tensor("t4", number(1, 20) + number(1, 8) + number(2, 8)
                                    + nested(6, "word"))
    yield "a table of 2^40 rows", tensor("t4", sizes(1 << 40, 8) + nested(9, table.tobytes()))
    yield "sizes of 2^62", tensor("t4", sizes(1 << 62, 1 << 62) + nested(9, table.tobytes()))
    yield "a size below 0", tensor("t4", sizes((1 << 64) - 20, 8) + nested(9, table.tobytes()))
    yield "twenty sizes", tensor("t4", sizes(*[1] * 20) + nested(9, table.tobytes()))
    yield "a byte too few", tensor("t4", sizes(20, 8) + nested(9, table.tobytes()[1:]))
    yield "no values", tensor("t4", sizes(20, 8))
    yield "values twice", tensor("t4", sizes(20, 8) + nested(9, table.tobytes()) * 2)
    yield "values in two fields", tensor("t4", sizes(20, 8) + nested(9, table.tobytes())
                                         + nested(4, table.tobytes()))
    yield "numbers cut off", tensor("t17", sizes(2)[:-2] + number(2, 7) + nested(7, b"\x01\x82"))
    yield "a number of 20 bytes", tensor("t17", number(1, 2) + number(2, 7)
                                         + nested(7, b"\xff" * 20 + b"\x01"))
    yield "integers as a matrix", tensor("t7", np.ones((8, 8), np.int64))
    yield "a matrix of three sizes", tensor("t7", np.ones((8, 8, 1), np.float32))
    yield "infinity", tensor("t7", np.full((8, 8), np.inf, np.float32))
    yield "a bias of another size", tensor("t8", np.ones(7, np.float32))
    yield "a gain of another size", tensor("t5", np.ones(7, np.float32))
    yield "outside, nowhere", tensor("t4", placed(location="no.bin"))
    yield "outside, no name", tensor("t4", placed())
    yield "outside, above", tensor("t4", placed(location="../../../etc/passwd"))
    yield "outside, absolute", tensor("t4", placed(location="/etc/passwd"))
    yield "outside, no numbers", beside(640, location="beside.bin", offset="x")
    yield "outside, too short", beside(639, location="beside.bin")
    yield "outside, beyond", beside(640, location="beside.bin", offset="640", length="640")
    yield "outside, below 0", beside(640, location="beside.bin", offset="-640", length="640")
    yield "outside, 2^70", beside(640, location="beside.bin", offset=str(1 << 70))
    yield "outside, sound", beside(640, location="beside.bin"), True


def _nodes() -> Entries:
    yield "no operator", op("q", op="")
    yield "an unknown operator", op("q", op="Frobnicate")
    yield "an operator of others", op("q", domain="com.example")
    yield "no inputs of a node", op("q", inputs=[])
    yield "ten inputs of a node", op("q", inputs=["q_product"] * 10)
    yield "an input of none", op("q", inputs=["", "q_product"])
    yield "a circle", op("q", inputs=["q", "q_product"])
    yield "later nodes", op("sum", inputs=["words", "rows"])
    yield "a name of 100,000 letters", op("q", inputs=["x" * 100_000, "q_product"])
    yield "a range of 2^40", tensor("t2", np.array(1 << 40))
    yield "a range of no step", tensor("t3", np.array(0))
    yield "a range of 2^60", graph(lambda own: replace(
        own.with_op("numbers", inputs=["t1", "far", "t3"]), tensors=dict(own.tensors) | {
            "far": np.array(1 << 60)}))
    yield "a shape of 2^50", tensor("t9", np.array([1 << 50, 0, 2, 4]))
    yield "a shape of two unknown", tensor("t9", np.array([-1, -1, 2, 4]))
    yield "axes beyond", tensor("t17", np.array([1, 99]))
    yield "an order of axes beyond", op("q_split", attributes={"perm": [0, 2, 1, 9]})
    yield "an order that is text", op("q_split", attributes={"perm": "abc"})
    yield "a type that is text", op("kept", attributes={"to": "x"})
    yield "a type unheard of", op("kept", attributes={"to": 99})
    yield "eps NaN", op("embedded", attributes={"epsilon": float("nan")})
    yield "eps below 0", op("embedded", attributes={"epsilon": -1.0})
    yield "an axis that is text", op("embedded", attributes={"axis": "x"})
    yield "an epsilon that is text", op("embedded", attributes={"epsilon": "x"})
    yield "a large array", graph(lambda own: replace(own, ops=[
        Op("ConstantOfShape", ["huge"], ["filled"]), *own.ops], tensors=dict(own.tensors) | {
            "huge": np.array([1 << 20, 1 << 20])}))
    yield "a chain of large arrays", graph(_doubling)


def _doubling(own: Graph) -> Graph:
    """Nodes that each give twice what they read."""
    ops = [Op("Concat", [f"d{index}"] * 2, [f"d{index + 1}"], {"axis": 0}) for index in range(60)]
    return replace(own, ops=[*ops, *own.ops], tensors=dict(own.tensors) | {
        "d0": np.ones(1, np.float32)})
