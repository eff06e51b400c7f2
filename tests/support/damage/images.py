"""Damaged program images."""

import json
from functools import partial

from .changes import (
    DEEP,
    Change,
    Edit,
    Entries,
    content,
    cut,
    header,
    inner,
    raw,
    update,
)

__all__ = ["images"]


def images() -> Entries:
    yield "empty", content("", b"")
    yield "text", content("", "no image at all")
    for share in (0.001, 0.1, 0.5, 0.9, 0.9999):
        yield f"cut at {share}", cut("", share)
    yield "a byte of memory", raw(lambda data: data.__setitem__(-300, data[-300] ^ 1))
    yield "no description", header(lambda told: told.pop("__metadata__"))
    yield "another key", header(lambda told: told.update(__metadata__={"other": "1"}))
    for what, text in (("text", "no JSON"), ("deep", DEEP), ("a list", "[]"), ("null", "null"),
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
