"""Damaged GGUF files."""

import struct

import numpy as np

from .changes import Change, Entries, content, cut, put, raw

__all__ = ["ggufs"]


def field(name: bytes, value: bytes, at: int = 4) -> Change:
    """Bytes ``at`` after a setting's or tensor's name in a GGUF file."""
    def edit(data: bytearray) -> None:
        start = data.index(name) + len(name) + at
        data[start:start + len(value)] = value
    return raw(edit)


def ggufs() -> Entries:
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
