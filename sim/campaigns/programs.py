"""Random programs for the whole accelerator: GEMMs of any shape, place, layout and epilogue."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand, members
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import MERGED_LOG2

__all__ = ["EPILOGUES", "Case", "ProgramMaker", "epilogues", "long_bursts_case",
           "long_rows_case", "random_case", "store_register", "stray_writes"]

_FACTORS = (0.25, 0.3, -1.5, 2.0)
EPILOGUES = ("none", "scale", "bias", "relu", "softmax")
BASE = 0x2_0000_0000


def epilogues(config: AcceleratorConfig) -> tuple[str, ...]:
    """Those of ``EPILOGUES`` that a build has."""
    exp = Function.EXP in members("function", config)
    return tuple(name for name in EPILOGUES if exp or name != "softmax")


@dataclass(frozen=True)
class Case:
    """A program in its memory image; ``outputs`` are all that it writes."""

    memory: np.ndarray
    address: int
    base: int
    outputs: tuple[Tensor, ...]
    label: str


class ProgramMaker:
    """Adds random commands to a program; ``rng`` makes every choice.

    While ``dense``, tensors lie as a compiler lays them: at whole beats of the bus, row after row.
    """

    dense = False

    def __init__(self, config: AcceleratorConfig, rng: np.random.Generator, largest: int) -> None:
        self.config, self.rng, self.largest = config, rng, largest
        self.builder = ProgramBuilder(config, BASE)
        self.outputs: list[Tensor] = []
        self.labels: list[str] = []
        self.table: Tensor | None = None

    def size(self) -> int:
        return int(self.rng.integers(1, self.largest + 1))

    def some(self, probability: float) -> bool:
        return self.rng.random() < probability

    def stored(self) -> str:
        """An encoding of the format."""
        return str(self.rng.choice([e.name for e in self.config.format.encodings]))

    def placement(self, encoding: str, columns: int) -> dict[str, int]:
        """Any byte address and stride for 8 bits, any even ones for 16."""
        if self.dense:
            return {}
        unit = self.builder.encoding(encoding).bits // 8
        gap = int(self.rng.integers(0, 6)) if self.some(0.6) else 0
        return {"skew": unit * int(self.rng.integers(0, 16)), "stride": unit * (columns + gap)}

    def constant(self, rows: int, columns: int, encoding: str) -> Tensor:
        values = self.rng.standard_normal((rows, columns)) * 2.0 ** self.rng.integers(-2, 3)
        if self.some(0.06):
            values.flat[self.rng.integers(values.size)] = np.nan
        return self.builder.constant(values, encoding, **self.placement(encoding, columns))

    def mask(self, rows: int, columns: int) -> Tensor:
        """0 where a score counts and the most negative finite BF16 elsewhere, in some rows all."""
        hidden = self.rng.random((rows, columns)) < 0.3
        hidden[self.rng.random(rows) < 0.3] = True
        codes = np.where(hidden, 0xFF7F, 0)
        return self.builder.codes(codes, "bf16", **self.placement("bf16", columns))

    def output(self, rows: int, columns: int) -> Tensor:
        encoding = "bf16" if self.some(0.25) else self.stored()
        place: dict[str, Any] = self.placement(encoding, columns)
        self.outputs.append(self.builder.empty(rows, columns, encoding, **place))
        return self.outputs[-1]

    def result(self, m: int, n: int) -> tuple[Tensor, dict[str, bool]]:
        """Where M×N results go, as they are or transposed, and how to say so."""
        if self.some(0.4):
            return self.output(n, m), {"out_transposed": True}
        return self.output(m, n), {}

    def factor(self) -> float | Scalar:
        """A scale; in a build that trains as often from memory."""
        if not self.config.trains or self.some(0.5):
            return float(self.rng.choice(_FACTORS))
        if self.table is None:
            self.table = self.builder.constant(
                self.rng.standard_normal((1, int(self.rng.integers(1, 20)))), "bf16",
                skew=2 * int(self.rng.integers(0, 16)))
        return Scalar(self.table, int(self.rng.integers(self.table.columns)))

    def epilogue(self, kind: str, m: int, n: int) -> Epilogue:
        scale: float | Scalar | None = None
        bias = None
        if kind == "scale" or self.some(0.3):
            scale = self.factor()
        if kind == "softmax" and self.some(0.3):
            bias = self.mask(m, n)
        elif kind == "bias" or self.some(0.3):
            rows = m if self.some(0.3) else 1
            bias = self.constant(rows, n, self.stored() if self.some(0.7) else "bf16")
        return Epilogue(scale, bias, softmax=kind == "softmax", relu=kind == "relu",
                        amax=self.config.trains and self.some(0.4))

    def gemm(self, kind: str, a: Tensor | None = None,
             shape: tuple[int, int, int] | None = None) -> Tensor:
        """Of any shape, or of A's; or M×K×N as ``shape`` says."""
        flip_a, flip_b = self.some(0.4), self.some(0.5)
        if a is None:
            rows, columns = (self.size(), self.size()) if shape is None else (
                shape[1::-1] if flip_a else shape[:2])
            a = self.constant(rows, columns, self.stored())
        m, k = a.shape[::-1] if flip_a else a.shape
        n = self.size() if shape is None else shape[2]
        b = self.constant(*((n, k) if flip_b else (k, n)), self.stored())
        epilogue = self.epilogue(kind, m, n)
        out, transposed = self.result(m, n)
        self.builder.gemm(a, b, out, epilogue, a_transposed=flip_a, b_transposed=flip_b,
                          **transposed)
        shown = _shown(epilogue)
        sides = " A^T" * flip_a + " B^T" * flip_b + " C^T" * bool(transposed)
        self.labels.append(f"{m}x{k}x{n}{sides} {shown}".strip())
        return out

    def vector(self, kind: str, n: int | None = None) -> None:
        m = self.size()
        n = self.size() if n is None else n
        x = self.constant(m, n, self.stored() if self.some(0.6) else "bf16")
        epilogue = self.epilogue(kind, m, n)
        out, transposed = self.result(m, n)
        self.builder.vector(x, out, epilogue, **transposed)
        self.labels.append(f"vector {m}x{n}{' C^T' if transposed else ''} {_shown(epilogue)}")

    def round(self, epilogue: str | None = None) -> None:
        """A GEMM, perhaps one that takes its result, perhaps a VECTOR."""
        def kind() -> str:
            return epilogue or str(self.rng.choice(epilogues(self.config)))

        first = self.gemm(kind())
        if self.some(0.3) and first.encoding in self.config.format.encodings:
            self.gemm(kind(), first)
        if self.some(0.3):
            self.vector(kind())

    def case(self) -> Case:
        """Everything so far as one program; in a build that trains it stores register A at last."""
        if self.config.trains:
            store_register(self.builder, self.outputs)
        memory, address = self.builder.build(seed=int(self.rng.integers(1 << 31)), spare=64)
        # A row softmax with a bias too long for the chip goes through a tensor of the builder's.
        between = [t for t in self.builder.tensors if t.name.endswith("before softmax")]
        return Case(memory, address, BASE, (*self.outputs, *between), "; ".join(self.labels))


def _shown(epilogue: Epilogue) -> str:
    """The parts of an epilogue that are there."""
    given = {"scale": epilogue.scale is not None, "bias": epilogue.bias is not None,
             "softmax": epilogue.softmax, "relu": epilogue.relu,
             "scalar": isinstance(epilogue.scale, Scalar), "amax": epilogue.amax}
    return "+".join(name for name, there in given.items() if there)


def store_register(builder: ProgramBuilder, outputs: list[Tensor]) -> None:
    """What register A holds, as a tensor of one item that joins ``outputs``."""
    outputs.append(builder.empty(1, 1, "bf16"))
    builder.vector(builder.constant(np.zeros((1, 1)), "bf16"), outputs[-1], Epilogue(
        instructions=(Instruction(add=Operand.A, destination=Destination.MEMORY),)))


def random_case(config: AcceleratorConfig, rng: np.random.Generator, *, largest: int = 13,
                epilogue: str | None = None, rounds: int = 1) -> Case:
    """``rounds`` of one to three commands (``ProgramMaker.round``)."""
    maker = ProgramMaker(config, rng, largest)
    for _ in range(rounds):
        maker.round(epilogue)
    return maker.case()


def long_bursts_case(config: AcceleratorConfig, rng: np.random.Generator) -> Case:
    """GEMMs whose weights are cut and read in every way that a build of usual buffers knows.

    Two of few rows, N of several chunks, which are a part of a panel of B stored K×N, and K beyond
    a panel of B stored N×K. Two of dense rows of 1, 2, 4 or 8 beats, which share bursts. Two of
    rows that are needed whole, so many that a span of K is a few tiles, fewer than such a panel
    has. ``config`` has softmax.
    """
    maker, dim = ProgramMaker(config, rng, 1), config.dim
    *plain, whole = epilogues(config)
    span = config.input_depth // config.row_depth * dim
    beat = config.bus_bytes // config.format.storage_bytes
    for _ in range(2):
        m, n = rng.integers((1, 2 * dim), (4 * dim + 1, 2 * dim * config.panel_columns + 1))
        k = config.panel_line * dim + rng.integers(1, 3 * dim)
        maker.gemm(str(rng.choice(plain)), shape=(int(m), int(k), int(n)))
        maker.dense = True
        k, n = beat << rng.integers(0, MERGED_LOG2 + 1, 2)
        maker.gemm(str(rng.choice(EPILOGUES)), shape=(int(m), int(k), int(n)))
        maker.dense = False
        m, k, n = rng.integers((config.row_depth // 2 + 1, 2 * span, 1),
                               (config.row_depth + 1, 4 * span, 4 * dim + 1))
        maker.gemm(whole, shape=(int(m), int(k), int(n)))
    return maker.case()


def long_rows_case(config: AcceleratorConfig, rng: np.random.Generator) -> Case:
    """One to three rows of 300 to 700 columns, so that a row takes several bursts."""
    maker = ProgramMaker(config, rng, 3)
    maker.vector(str(rng.choice(epilogues(config))), int(rng.integers(300, 701)))
    return maker.case()


def stray_writes(case: Case, written: np.ndarray) -> list[str]:
    """What is wrong with the number of times that each byte of the image was written.

    Every byte of a result exactly once, every other byte never.
    """
    wanted = np.zeros_like(written)
    for tensor in case.outputs:
        tensor.window(wanted, case.base)[:] = 1
    return [f"{case.base + at:#x} written {written[at]} times, not {wanted[at]}"
            for at in np.flatnonzero(written != wanted)[:5]]
