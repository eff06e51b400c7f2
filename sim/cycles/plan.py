"""From a command to what the units follow: blocks of rows, chunks of columns, spans of K.

The rules are those of docs/architecture.md ("Blocks, chunks, panels, tiles").
"""

from collections.abc import Mapping, Sequence

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
from hdl.spec.config import AcceleratorConfig, ceil_log2, log2_exact

__all__ = ["PLAN", "STEP_FLAGS", "plans"]

_COPIED = ("m", "k", "n", "a_address", "b_address", "c_address", "y0_address", "y1_address",
           "a_stride", "b_stride", "c_stride", "y0_stride", "y1_stride", "a_transposed",
           "b_transposed", "c_transposed", "row_max", "row_result", "x_gather", "x_wide",
           "y0_wide", "y1_wide", "c_wide")
STEP_FLAGS = ("uses_y", "second_y", "to_buffer", "to_memory", "reduces", "averages")
"""What the timing of an instruction depends on; ``averages``: its post takes two cycles more."""

PLAN = np.dtype([(name, "i8") for name in (
    "opcode", "scans", *_COPIED, "gemm", "block_log2", "chunk", "chunk_log2", "k_span", "resident",
    "streamed", "passes", "single", "rowwise")]
    + [(name, "i8", INSTRUCTIONS) for name in STEP_FLAGS])
"""``scans``: instructions that are checked, one a cycle. ``gemm``: the array fills the block, else
memory. ``chunk``, ``k_span``: columns and elements of K held at once. ``resident``: K is one span,
so that a block of A is loaded once. ``streamed``: each of ``passes`` instructions fills the bank
anew, for a row does not fit. ``single``: the list has one instruction. ``rowwise``: it needs whole
rows."""


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


def _spans(config: AcceleratorConfig, gemm: bool, rowwise: bool, stored: bool,
           m: int, k: int, n: int) -> dict[str, int]:
    """How the command is cut. All spans but the last of a loop are powers of two."""
    dim_log2 = log2_exact(config.dim)
    k_log2, n_log2 = (ceil_log2(-(-count // config.dim)) for count in (k, n))
    input_log2, acc_log2 = log2_exact(config.input_depth), log2_exact(config.acc_depth)
    row_log2 = log2_exact(config.row_depth)
    fits = n_log2 <= acc_log2
    streamed = rowwise and not stored and not fits
    if (rowwise or not gemm) and fits:
        chunk_log2 = n_log2
    else:
        chunk_log2 = acc_log2 if streamed else log2_exact(config.panel_columns)
    rows = min(acc_log2 - chunk_log2, ceil_log2(m), input_log2,
               min(row_log2, dim_log2 + 2) if gemm and not rowwise else row_log2)
    rows = 0 if streamed else rows
    # Rows that share weights come first: K is cut to what fits beside them.
    resident = k_log2 <= input_log2 - rows
    return {"resident": resident, "streamed": streamed, "chunk_log2": chunk_log2 + dim_log2,
            "chunk": 1 << chunk_log2 + dim_log2, "block_log2": rows,
            "k_span": config.dim << (k_log2 if resident else input_log2 - rows)}


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
        spans = _spans(config, opcode == Opcode.GEMM, rowwise, stored, m, k, n)
        if stored and n > config.acc_depth * config.dim:
            raise ValueError(f"command {index} must keep its rows on chip: at most "
                             f"{config.acc_depth * config.dim} columns, not {n}")
        spans |= {"gemm": opcode == Opcode.GEMM, "rowwise": rowwise, "single": len(words) == 1,
                  "passes": len(words) if spans["streamed"] else 1}
        for name, value in spans.items():
            row[name] = value
        for number, word in enumerate(words):
            for name, value in _flags(word).items():
                row[name][number] = value
    return table
