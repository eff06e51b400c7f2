"""Images with programs made by hand, field by field, without the builder."""

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    MAGIC,
    Destination,
    Opcode,
    features_of,
    pack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.model.codec import encode
from sim.model.machine import Machine
from sim.model.rounding import to_words

__all__ = ["BASE", "SIZE", "STORE", "A", "B", "Bench", "C", "Y", "bf16", "listed"]

BASE = 0x1000
A, B, C, Y = (BASE + offset for offset in (0x1001, 0x2003, 0x3005, 0x4002))
SIZE = 0x6000
STORE = {"destination": Destination.MEMORY}


def listed(*instructions, last=True):
    words = 0
    for index, fields in enumerate(instructions):
        fields = dict(fields, last=int(last and index == len(instructions) - 1))
        word = int.from_bytes(pack(INSTRUCTION, {k: int(v) for k, v in fields.items()}, 4),
                              "little")
        words |= word << 32 * index
    return words


def bf16(value):
    return int(to_words(BFLOAT16, np.array(value)))


class Bench:
    """An image with a program at BASE and tensors at odd places (even ones for BF16)."""

    def __init__(self, fmt="posit8", **options):
        self.config = AcceleratorConfig(fmt=fmt, **{"dim": 4, **options})
        self.wide = self.config.format.storage_bytes
        self.memory = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
        self.commands = []
        self.header = {"magic": MAGIC, "isa_major": 1, "features": int(features_of(self.config))}

    def place(self, address, values, stride, encoding=0):
        codes = encode(self.config.format.encodings[encoding], values)
        return self.put(address, codes, stride)

    def put(self, address, codes, stride):
        raw = np.ascontiguousarray(codes).view(np.uint8)
        for row, data in enumerate(raw):
            at = address - BASE + row * stride
            self.memory[at:at + len(data)] = data
        return codes

    def command(self, opcode, **fields):
        self.commands.append({"opcode": int(opcode)} | {k: int(v) for k, v in fields.items()})

    def gemm(self, m, k, n, instructions=(STORE,), **fields):
        w = self.wide
        at = {"a_address": A, "b_address": B, "c_address": C}
        if w == 2:
            at = {name: value & ~1 for name, value in at.items()}
        self.command(Opcode.GEMM, **{**at, "m": m, "k": k, "n": n, "a_stride": k * w + 6,
                                     "b_stride": n * w + 4, "c_stride": n * w + 2,
                                     "instructions": listed(*instructions), **fields})
        return self.commands[-1]

    def vector(self, m, n, instructions=(STORE,), **fields):
        self.gemm(m, 1, n, instructions, **{"a_stride": n * self.wide, "b_stride": 0, **fields})
        self.commands[-1]["opcode"] = int(Opcode.VECTOR)
        return self.commands[-1]

    def run(self, program=BASE):
        self.header.setdefault("commands", len(self.commands))
        records = [pack(HEADER, self.header, HEADER_BYTES)]
        records += [pack(COMMAND, fields, COMMAND_BYTES) for fields in self.commands]
        image = np.frombuffer(b"".join(records), np.uint8)
        self.memory[:len(image)] = image
        self.before = self.memory.copy()
        return Machine(self.config).run(self.memory, program, BASE)

    def codes(self, fields, name, rows, columns, size=None):
        size = size or self.wide
        start = fields[f"{name}_address"] - BASE
        index = (start + np.arange(rows)[:, None] * fields[f"{name}_stride"]
                 + np.arange(columns * size))
        codes = self.memory[index]
        return np.ascontiguousarray(codes).view("<u2") if size == 2 else codes
