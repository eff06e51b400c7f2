"""From a command to what the units follow: blocks of rows, chunks of columns, spans of K."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from hdl.spec.commands import (
    INSTRUCTION,
    INSTRUCTIONS,
    Destination,
    Opcode,
    Operand,
    Post,
    Reduce,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import check_cycles, cut, row_columns, row_fits

__all__ = ["PLAN", "STEP_FLAGS", "plans"]

_COPIED = ("m", "k", "n", "a_address", "b_address", "c_address", "y0_address", "y1_address",
           "a_stride", "b_stride", "c_stride", "y0_stride", "y1_stride", "a_transposed",
           "b_transposed", "c_transposed", "row_max", "row_result", "x_gather", "x_wide",
           "y0_wide", "y1_wide", "c_wide")
STEP_FLAGS = ("uses_y", "second_y", "to_buffer", "to_memory", "reduces", "averages")
"""What the timing of an instruction depends on; ``averages``: its post takes two cycles more."""

PLAN = np.dtype([(name, "i8") for name in (
    "opcode", "scans", "check_cycles", *_COPIED, "gemm", "block_log2", "chunk", "k_span",
    "resident", "streamed", "passes", "single", "rowwise")]
    + [(name, "i8", INSTRUCTIONS) for name in STEP_FLAGS])
"""``scans``: instructions that are checked, in ``check_cycles``. ``gemm``: the array fills the
block, else memory. ``block_log2`` to ``streamed``: see ``hdl.spec.timing.Cut``. ``passes``: over
the input, one or as many as there are instructions. ``single``: the list has one instruction.
``rowwise``: it needs whole rows."""


def _field(word: int, name: str) -> int:
    field = INSTRUCTION[name]
    return word >> field.low & (1 << field.bits) - 1


def _steps(words: int) -> tuple[list[int], int]:
    """The list's words and how many are looked at until the one marked last."""
    found = []
    for index in range(INSTRUCTIONS):
        word = words >> 32 * index & 0xFFFFFFFF
        found.append(word)
        if _field(word, "last"):
            break
    return found, len(found)


def _flags(word: int) -> dict[str, int]:
    uses_y = any(_field(word, stage) == Operand.Y for stage in ("multiply", "add", "scale"))
    destination = _field(word, "destination")
    post = {step.value: step.name for step in Post}.get(_field(word, "post"))
    return {"uses_y": uses_y, "second_y": _field(word, "y"),
            "to_buffer": destination == Destination.BUFFER,
            "to_memory": destination == Destination.MEMORY,
            "reduces": _field(word, "reduce") != Reduce.NONE,
            "averages": post in ("MEAN", "INVERSE_SQRT")}


def _rowwise(words: Sequence[int], whole: bool) -> tuple[bool, bool]:
    """Whether the list needs whole rows, and whether a row must fit on chip; ``whole``: both,
    whatever the list."""
    registers = (Operand.R0, Operand.R1)
    stored = whole or any(_field(w, "destination") == Destination.BUFFER for w in words)
    uses = any(_field(w, "reduce") != Reduce.NONE
               or any(_field(w, stage) in registers for stage in ("multiply", "add", "scale"))
               for w in words)
    return whole or uses, stored


def plans(config: AcceleratorConfig, commands: Sequence[Mapping[str, int]]) -> np.ndarray:
    """A ``PLAN`` a command; fields that a command does not name are 0.

    ``ValueError`` for a command that the accelerator would refuse for its opcode or its size.
    """
    table = np.zeros(len(commands), PLAN)
    for index, (row, fields) in enumerate(zip(table, commands, strict=True)):
        opcode = fields.get("opcode", 0)
        if opcode not in (Opcode.GEMM, Opcode.VECTOR, Opcode.FENCE, Opcode.END):
            raise ValueError(f"command {index} must be a GEMM, VECTOR, FENCE or END, "
                             f"not opcode {opcode!r}")
        words, row["scans"] = _steps(fields.get("instructions", 0))
        row["check_cycles"] = check_cycles(row["scans"])
        row["opcode"] = opcode
        if opcode in (Opcode.FENCE, Opcode.END):
            continue
        for name in _COPIED:
            row[name] = fields.get(name, 0)
        m, k, n = (fields.get(name, 0) for name in "mkn")
        if not all(0 < count < 1 << 24 for count in (m, k, n)):
            raise ValueError(f"command {index} must have M, K and N from 1 to {(1 << 24) - 1}, "
                             f"not {m}, {k}, {n}")
        rowwise, stored = _rowwise(words, bool(row["row_max"] or row["row_result"]))
        if stored and not row_fits(config, n):
            raise ValueError(f"command {index} must keep its rows on chip: at most "
                             f"{row_columns(config)} columns, not {n}")
        spans = cut(config, gemm=opcode == Opcode.GEMM, rowwise=rowwise, stored=stored,
                    m=m, k=k, n=n)
        found = asdict(spans) | {
            "gemm": opcode == Opcode.GEMM, "rowwise": rowwise, "single": len(words) == 1,
            "passes": len(words) if spans.streamed else 1}
        for name, value in found.items():
            row[name] = value
        for number, word in enumerate(words):
            for name, value in _flags(word).items():
                row[name][number] = value
    return table
