"""A program in memory: its commands one by one, and as text, one line a command."""

from collections.abc import Iterator

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    INSTRUCTIONS,
    Destination,
    Feature,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
    unpack,
)
from sim.lowering import Instruction

__all__ = ["commands", "disassemble", "instructions"]


def commands(memory: np.ndarray, program_address: int, base: int = 0
             ) -> Iterator[tuple[int, dict[str, int]]]:
    """Address and fields of each command up to END, the header's count or the image's end.

    ``memory`` is the image from address ``base`` on.
    """
    image = memory[program_address - base:].tobytes()
    count = unpack(HEADER, image[:HEADER_BYTES])["commands"]
    for start in range(HEADER_BYTES, HEADER_BYTES + count * COMMAND_BYTES, COMMAND_BYTES):
        record = image[start:start + COMMAND_BYTES]
        if len(record) < COMMAND_BYTES:
            return
        fields = unpack(COMMAND, record)
        yield program_address + start, fields
        if fields["opcode"] == Opcode.END:
            return


def instructions(words: int) -> Iterator[int]:
    """The 32-bit words of a list, up to the one that is marked last."""
    for index in range(INSTRUCTIONS):
        word = words >> 32 * index & 0xFFFFFFFF
        yield word
        if word >> INSTRUCTION["last"].offset & 1:
            return


def disassemble(memory: np.ndarray, program_address: int, base: int = 0) -> list[str]:
    """The header's line and one line for each command up to END, the count or the image's end.

    ``memory`` is the image from address ``base`` on. Fields that no rule explains are shown as
    numbers: a broken program can be read too.
    """
    start = program_address - base
    header = unpack(HEADER, memory[start:start + HEADER_BYTES].tobytes())
    features = Feature(header["features"])
    names = " ".join(f.name for f in features if f.name) or "none"
    lines = [f"{program_address:#010x} header magic {header['magic']:#010x} "
             f"isa {header['isa_major']}.{header['isa_minor']} commands {header['commands']} "
             f"features {names}"]
    return lines + [f"{address:#010x} {_command(fields)}"
                    for address, fields in commands(memory, program_address, base)]


def _command(fields: dict[str, int]) -> str:
    opcode = fields["opcode"]
    if opcode not in (Opcode.GEMM, Opcode.VECTOR):
        known = opcode in list(Opcode)
        return Opcode(opcode).name.lower() if known else f"opcode {opcode}"
    m, k, n = fields["m"], fields["k"], fields["n"]
    if opcode == Opcode.GEMM:
        a, b = (name.upper() + "ᵀ" * fields[f"{name}_transposed"] for name in "ab")
        text = f"gemm   {m}×{k}×{n} {_tensor(a, fields, 'a')} · {_tensor(b, fields, 'b')}"
    else:
        text = f"vector {m}×{n} {_tensor('X', fields, 'a', 'x_wide')}"
    turned = "ᵀ" if fields["c_transposed"] else ""
    text += f" → {_tensor('C' + turned, fields, 'c')}"
    passes = _instructions(fields["instructions"])
    if fields["row_max"]:
        passes = f"IMM0 × row max→R0; {passes}"
    for index in (0, 1):
        if f"Y{index}" in passes:
            text += f", {_tensor(f'Y{index}', fields, f'y{index}')}"
        if f"IMM{index}" in passes:
            text += f", IMM{index} {fields[f'imm{index}']:#06x}"
    if "mean" in passes:
        text += "".join(f", {name} {fields[name]:#010x}" for name in ("inverse_n", "epsilon"))
    return f"{text}: {passes}"


def _tensor(label: str, fields: dict[str, int], prefix: str, wide: str | None = None) -> str:
    kind = ".bf16" if fields.get(wide or f"{prefix}_wide") else ""
    kind = ".e5m2" if fields[f"{prefix}_e5m2"] and not kind else kind
    return f"{label}{kind}@{fields[f'{prefix}_address']:#x}/{fields[f'{prefix}_stride']}"


def _instructions(words: int) -> str:
    texts = []
    for word in instructions(words):
        try:
            texts.append(_instruction(Instruction.from_word(word)))
        except ValueError:
            texts.append(f"{word:#010x}")
    return "; ".join(texts)


def _instruction(step: Instruction) -> str:
    def operand(value: Operand) -> str:
        return {Operand.Y: f"Y{step.y}", Operand.SELF: "self"}.get(value, value.name)

    text = "x"
    if step.multiply:
        text += f" × {operand(step.multiply)}"
    if step.add:
        text += f" {'−' if step.subtract else '+'} {operand(step.add)}"
    if step.function != Function.NONE:
        text = f"{step.function.name.lower()}({text})"
    if step.scale:
        text = f"({text})" if step.add and step.function == Function.NONE else text
        text += f" × {operand(step.scale)}"
    if step.relu:
        text = f"relu({text})"
    if step.reduce != Reduce.NONE:
        reduction = step.reduce.name.lower()
        reduction = {Post.RECIPROCAL: f"1/{reduction}", Post.MEAN: f"mean {reduction}",
                     Post.INVERSE_SQRT: f"1/√(mean {reduction} + ε)"}.get(step.post, reduction)
        text += f" {reduction}→R{step.reduce_to}"
    if step.destination != Destination.NONE:
        text += f" →{step.destination.name}"
    return text
