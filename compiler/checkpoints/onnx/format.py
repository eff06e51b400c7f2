"""What is in an ONNX file: nodes, tensors by their places, inputs and outputs (onnx.proto3)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compiler.checkpoints.checkpoint import CheckpointError, mapped
from compiler.checkpoints.onnx.tensor import MOST_SIZES, Tensor, read_tensor
from compiler.checkpoints.onnx.wire import Message

__all__ = ["Model", "Node", "Port", "read_model"]

_MOST = 1 << 15  # nodes and tensors of a graph: more than a hundred layers have
_MOST_ITEMS = 1 << 18


@dataclass(frozen=True)
class Node:
    """``domain`` "" is ONNX's own; ``label`` is the name that messages give it."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        own = self.name or next(iter(self.outputs), "without a name")
        return f"node {own} ({self.domain + '.' if self.domain else ''}{self.op})"


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; ``shape`` is ``None`` where the file says none, a size in it
    ``None`` where it is not fixed. ``kind``: the number of its type."""

    name: str
    kind: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Model:
    """``versions``: of each domain's set of operators."""

    path: Path
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    versions: Mapping[str, int]


def read_model(path: Path) -> Model:
    """The model in file ``path``; ``CheckpointError`` where it is damaged or none."""
    view = mapped(path, "ONNX")
    return _model(path, Message(view, 0, len(view), str(path), "the model"))


def _model(path: Path, message: Message) -> Model:
    graph, versions = None, dict[str, int]()
    for own in message.fields():
        if own.number == 7:
            graph = message.inner(own, "the graph")
        elif own.number == 8:
            domain, version = _version(message.inner(own, "a set of operators"))
            versions[domain] = version
    if graph is None or not versions:
        raise message.error("has no graph" if graph is None else "names no set of operators")
    nodes: list[Node] = []
    tensors: dict[str, Tensor] = {}
    ports: dict[int, list[Port]] = {11: [], 12: []}
    for own in graph.fields():
        if own.number == 1:
            nodes.append(_node(path, graph.inner(own, f"node {len(nodes)}")))
        elif own.number == 5:
            tensor = read_tensor(path, graph.inner(own, f"tensor {len(tensors)}"))
            if tensor.name in tensors:
                raise graph.error(f"has two tensors {tensor.name}")
            tensors[tensor.name] = tensor
        elif own.number in ports:
            ports[own.number].append(_port(graph.inner(own, "an input or output")))
        elif own.number == 15:
            raise CheckpointError(f"{path}: tensors must not be sparse")
        if len(nodes) + len(tensors) > _MOST:
            raise graph.error(f"has more than {_MOST} nodes and tensors")
    inputs = tuple(port for port in ports[11] if port.name not in tensors)
    return Model(path, tuple(nodes), tensors, inputs, tuple(ports[12]), versions)


def _version(message: Message) -> tuple[str, int]:
    domain, version = "", 1
    for own in message.fields():
        if own.number == 1:
            domain = message.text(own)
        elif own.number == 2:
            version = message.signed(own)
    return ("" if domain == "ai.onnx" else domain), version


def _node(path: Path, message: Message) -> Node:
    texts: dict[int, list[str]] = {number: [] for number in (1, 2, 3, 4, 7)}
    attributes: dict[str, Any] = {}
    for own in message.fields():
        if own.number in texts:
            texts[own.number].append(message.text(own))
        elif own.number == 5:
            name, value = _attribute(path, message.inner(own, f"an attribute of {message.what}"))
            attributes[name] = value
    name, op, domain = ((texts[number] or [""])[-1] for number in (3, 4, 7))
    if not op:
        raise message.error("names no operator")
    return Node(op, tuple(texts[1]), tuple(texts[2]), name,
                "" if domain == "ai.onnx" else domain, attributes)


def _attribute(path: Path, message: Message) -> tuple[str, Any]:
    """By its type, or by what is there where old files name none. Graphs are ``None``."""
    name, kind = "", 0
    single: dict[int, Any] = {}
    lists: dict[int, list[Any]] = {7: [], 8: [], 9: []}
    readers: dict[int, Callable] = {2: message.floating, 3: message.signed, 4: message.text}
    many: dict[int, Callable] = {7: message.many_floats, 8: message.many,
                                 9: lambda own: [message.text(own)]}
    for own in message.fields():
        if own.number == 1:
            name = message.text(own)
        elif own.number == 20:
            kind = message.signed(own)
        elif own.number in readers:
            single[own.number] = readers[own.number](own)
        elif own.number in many:
            lists[own.number] += many[own.number](own)
            if len(lists[own.number]) > _MOST_ITEMS:
                raise message.error(f"has more than {_MOST_ITEMS} items")
        elif own.number == 5:
            single[5] = read_tensor(path, message.inner(own, f"the tensor of {message.what}"))
    # Type of an attribute → its field, and what stands for one that the file leaves out.
    by_kind = {1: (2, 0.0), 2: (3, 0), 3: (4, ""), 4: (5, None), 6: (7, []), 7: (8, []), 8: (9, [])}
    if kind in by_kind:
        number, default = by_kind[kind]
        return name, lists[number] if number in lists else single.get(number, default)
    if kind:
        return name, None
    found = [*single.values(), *(own for own in lists.values() if own)]
    return name, found[0] if found else None


def _port(message: Message) -> Port:
    name, kind = "", 0
    shape: tuple[int | None, ...] | None = None
    for own in message.fields():
        if own.number == 1:
            name = message.text(own)
        elif own.number == 2:
            whole = message.inner(own, "a type")
            for part in whole.fields():
                if part.number == 1:
                    kind, shape = _tensor_type(whole.inner(part, "a type"))
    return Port(name, kind, shape)


def _tensor_type(message: Message) -> tuple[int, tuple[int | None, ...] | None]:
    kind = 0
    shape: tuple[int | None, ...] | None = None
    for own in message.fields():
        if own.number == 1:
            kind = message.signed(own)
        elif own.number == 2:
            whole = message.inner(own, "a shape")
            shape = tuple(_size(whole.inner(part, "a size")) for part in whole.fields()
                          if part.number == 1)
            if len(shape) > MOST_SIZES:
                raise message.error(f"must have at most {MOST_SIZES} sizes, not {len(shape)}")
    return kind, shape


def _size(message: Message) -> int | None:
    for own in message.fields():
        if own.number == 1:
            size = message.signed(own)
            return size if size > 0 else None
    return None
