"""Exact oracles, one value at a time, apart from the models' vectorised methods; an image with
hand-made programs."""

import math
from bisect import bisect_left
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

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
from hdl.spec.formats import BFLOAT16, FloatEncoding, LaneType, PositEncoding
from sim.model.codec import encode
from sim.model.machine import Machine
from sim.model.rounding import to_words

BASE = 0x1000
A, B, C, Y = (BASE + offset for offset in (0x1001, 0x2003, 0x3005, 0x4002))
SIZE = 0x6000
STORE = {"destination": Destination.MEMORY}


def round_fraction(lane: LaneType, value: Fraction, zero: float = 0.0) -> float:
    """RNE of an exact value with unbounded exponent, then zero or Inf outside the range."""
    if value == 0:
        return zero
    sign = math.copysign(1.0, value)
    exponent = value_log2(abs(value))
    quantum = Fraction(2) ** (exponent - lane.fraction_bits)
    result = round(value / quantum) * quantum  # Python rounds halves to even
    if abs(result) < Fraction(2) ** (1 - lane.bias):
        return math.copysign(0.0, sign)
    if abs(result) >= Fraction(2) ** (lane.bias + 1):
        return math.copysign(math.inf, sign)
    return float(result)


def value_log2(value: Fraction) -> int:
    """Floor of log2 of a positive rational."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if value >= Fraction(2) ** guess else guess - 1


def add(lane: LaneType, a: float, b: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    both = math.copysign(1, a) < 0 and math.copysign(1, b) < 0
    return round_fraction(lane, Fraction(a) + Fraction(b), -0.0 if both else 0.0)


def multiply(lane: LaneType, a: float, b: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    zero = math.copysign(0.0, math.copysign(1, a) * math.copysign(1, b))
    return round_fraction(lane, Fraction(a) * Fraction(b), zero)


def fused(lane: LaneType, psum: float, a: float, b: float) -> float:
    if not all(map(math.isfinite, (psum, a, b))):
        return psum + a * b
    product = Fraction(a) * Fraction(b)
    zero = math.copysign(1, a) * math.copysign(1, b)
    if product == 0 and psum == 0:
        return psum if math.copysign(1, psum) == zero else 0.0
    return round_fraction(lane, Fraction(psum) + product)


def posit_ring(bits: int, es: int) -> list[Fraction]:
    """Values of codes 0 ... 2^(bits-1) - 1 by Gustafson's construction of the projective ring.

    Each further bit puts a point between two neighbours: useed times beyond the outermost, the
    geometric mean of powers of two more than an octave apart, the arithmetic mean otherwise.
    """
    useed = Fraction(2) ** (1 << es)
    ring = [Fraction(0), Fraction(1)]
    for _ in range(bits - 2):
        finer = []
        for low, high in zip(ring, [*ring[1:], None], strict=True):
            if high is None:
                middle = low * useed
            elif low == 0:
                middle = high / useed
            elif high / low > 2:
                middle = Fraction(2) ** ((value_log2(low) + value_log2(high)) // 2)
            else:
                middle = (low + high) / 2
            finer += [low, middle]
        ring = finer
    return ring


def posit_encode(encoding: PositEncoding, value: Fraction) -> int:
    """The bit string regime, exponent, fraction of |value|, cut to n - 1 bits by RNE."""
    magnitude = abs(value)
    if encoding.flush_log2 is not None and magnitude < Fraction(2) ** encoding.flush_log2:
        return 0
    if magnitude == 0:
        return 0
    scale = value_log2(magnitude)
    regime, exponent = divmod(scale, 1 << encoding.es)
    length = 64
    tail = magnitude / Fraction(2) ** scale - 1
    run = "1" * (regime + 1) + "0" if regime >= 0 else "0" * -regime + "1"
    text = run + (format(exponent, f"0{encoding.es}b") if encoding.es else "")
    scaled = tail * (1 << length)
    text += format(int(scaled), f"0{length}b")
    keep = encoding.bits - 1
    kept, guard = int(text[:keep], 2), text[keep] == "1"
    sticky = "1" in text[keep + 1:] or scaled.denominator != 1
    kept += guard and (sticky or kept & 1)
    kept = min(max(kept, 1), (1 << keep) - 1)
    return kept if value > 0 else (1 << encoding.bits) - kept


class FloatOracle:
    """Nearest finite code by search among all of them; ties to the even code."""

    def __init__(self, encoding: FloatEncoding) -> None:
        self.encoding = encoding
        self.values = [self.value(code) for code in range(encoding.max_code + 1)]
        self.middles = [(a + b) / 2
                        for a, b in zip(self.values, self.values[1:], strict=False)]

    def value(self, code: int) -> Fraction:
        exponent, fraction = divmod(code, 1 << self.encoding.fraction_bits)
        unit = Fraction(1, 1 << self.encoding.fraction_bits)
        if exponent == 0:
            return fraction * unit * Fraction(2) ** (1 - self.encoding.bias)
        return (1 + fraction * unit) * Fraction(2) ** (exponent - self.encoding.bias)

    def encode(self, value: float) -> int:
        magnitude = Fraction(abs(value))
        code = bisect_left(self.middles, magnitude)
        if code < len(self.middles) and self.middles[code] == magnitude:
            code += code & 1
        negative = math.copysign(1, value) < 0
        return code | negative << self.encoding.bits - 1


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


@pytest.fixture(scope="session")
def programs() -> SimpleNamespace:
    """How to make programs by hand."""
    return SimpleNamespace(Bench=Bench, listed=listed, bf16=bf16)


@pytest.fixture(scope="session")
def oracle() -> SimpleNamespace:
    return SimpleNamespace(
        round_fraction=round_fraction, add=add, multiply=multiply, fused=fused,
        posit_ring=posit_ring, posit_encode=posit_encode, FloatOracle=FloatOracle)
