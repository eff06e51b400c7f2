"""From a command to what the units follow: blocks of rows, chunks of columns, spans of K."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMPUTING,
    INSTRUCTIONS,
    Destination,
    Opcode,
    Operand,
    Reduce,
    Trait,
    meanings,
    touched,
    traits,
)
from hdl.spec.config import COUNT_MOST, AcceleratorConfig
from hdl.spec.timing import check_cycles, cut, row_columns, row_fits
from sim.model.command import Command

__all__ = ["PLAN", "STEP_FLAGS", "plans"]

# Whatever a unit takes; the list goes into the flags of its steps.
_COPIED = tuple(field.name for field in COMMAND.values()
                if field.units and field.name != "instructions")
STEP_FLAGS = ("uses_y", "second_y", "following_y", "to_buffer", "to_memory", "items", "reduces",
              "of_rows", "averages")
"""What the timing of an instruction depends on; ``following_y``: what follows Y is taken;
``items``: of each row one goes to D; ``reduces``: of each row (``of_rows``) or all;
``averages``: its post takes two cycles more."""

PLAN = np.dtype([(name, "i8") for name in (
    "opcode", "scans", "check_cycles", "scalars", *_COPIED, "gemm", "block_log2", "chunk", "k_span",
    "resident", "streamed", "passes", "single", "rowwise", "k_panel", "n_panel")]
    + [(name, "i8", INSTRUCTIONS) for name in STEP_FLAGS])
"""``scans``: instructions that are checked, in ``check_cycles``. ``scalars``: that are read before
the command is handed out. ``gemm``: the array fills the
block, else memory. ``block_log2`` to ``streamed``: see ``hdl.spec.timing.Cut``. ``passes``: over
the input, one or as many as there are instructions. ``single``: the list has one instruction.
``rowwise``: it needs whole rows. ``k_panel``, ``n_panel``: elements of a panel of B."""


def _flags(step: Mapping[str, int]) -> dict[str, int]:
    return {"uses_y": not touched(step).isdisjoint(Operand.Y.meaning.tensors),
            "second_y": step["y"], "to_buffer": step["destination"] == Destination.BUFFER,
            "following_y": step["y_second"], "items": Trait.ITEMS in traits(step),
            "to_memory": bool(traits(step) & (Trait.STORES | Trait.ITEMS)),
            "reduces": step["reduce"] != Reduce.NONE,
            "of_rows": Trait.REDUCES in traits(step),
            "averages": any("inverse_n" in meaning.reads for meaning in meanings(step).values())}


def plans(config: AcceleratorConfig, commands: Sequence[Mapping[str, int]]) -> np.ndarray:
    """One ``PLAN`` per command; fields that a command does not name are 0.

    ``ValueError`` for a command that the accelerator would refuse for its opcode or its size.
    """
    table, absent = np.zeros(len(commands), PLAN), dict.fromkeys(COMMAND, 0)
    for index, (row, given) in enumerate(zip(table, commands, strict=True)):
        command = Command(config, absent | dict(given))
        fields, opcode, steps = command.fields, command.opcode, command.instructions
        if opcode not in (*COMPUTING, Opcode.FENCE, Opcode.END):
            raise ValueError(f"command {index} must be a GEMM, VECTOR, FENCE or END, "
                             f"not opcode {given.get('opcode', 0)!r}")
        row["opcode"], row["scans"] = opcode, len(steps)
        row["check_cycles"] = check_cycles(len(steps))
        if opcode not in COMPUTING:
            continue
        row["scalars"] = len(command.scalars)
        for name in _COPIED:
            row[name] = fields[name]
        m, k, n = (fields[name] for name in "mkn")
        if not all(0 < count <= COUNT_MOST for count in (m, k, n)):
            raise ValueError(f"command {index} must have M, K and N from 1 to {COUNT_MOST}, "
                             f"not {m}, {k}, {n}")
        rowwise, stored = (trait in command.traits for trait in (Trait.WHOLE_ROWS, Trait.ON_CHIP))
        if stored and not row_fits(config, n):
            raise ValueError(f"command {index} must keep its rows on chip: at most "
                             f"{row_columns(config)} columns, not {n}")
        spans = cut(config, gemm=opcode == Opcode.GEMM, rowwise=rowwise, stored=stored,
                    m=m, k=k, n=n)
        found = asdict(spans) | {
            "gemm": opcode == Opcode.GEMM, "rowwise": rowwise, "single": len(steps) == 1,
            "passes": len(steps) if spans.streamed else 1}
        found["k_panel"], found["n_panel"] = (
            config.dim * tiles for tiles in config.panel_tiles(bool(fields["b_transposed"])))
        for name, value in found.items():
            row[name] = value
        for number, step in enumerate(steps):
            for name, value in _flags(step).items():
                row[name][number] = value
    return table
