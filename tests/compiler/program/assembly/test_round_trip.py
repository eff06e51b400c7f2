"""Words, text, words: what hypothesis draws survives, and what is edited is refused in one line."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compiler.program.assembly.instructions import list_text, parse_list
from compiler.program.assembly.listing import AssemblyError, assemble, disassemble, program_bytes
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    MAGIC,
    Opcode,
    pack,
)
from support.properties import examples

BASE = 0x40


def values(fields):
    """Some of ``fields`` with values: often 0, 1 or the largest."""
    names = [name for name in fields if name != "opcode"]

    def value(name):
        largest = (1 << fields[name].bits) - 1
        return st.one_of(st.sampled_from([1, largest]), st.integers(0, largest))

    return st.lists(st.sampled_from(names), unique=True, max_size=8).flatmap(
        lambda chosen: st.fixed_dictionaries({name: value(name) for name in chosen}))


commands = st.tuples(st.sampled_from([*map(int, Opcode), 77]), values(COMMAND)).map(
    lambda both: {"opcode": both[0]} | both[1])


def image(listed, header):
    known = {"magic": MAGIC, "isa_major": 1, "commands": len(listed)}
    records = [pack(HEADER, known | {n: v for n, v in header.items() if n != "commands"},
                    HEADER_BYTES)]
    records += [pack(COMMAND, fields, COMMAND_BYTES) for fields in listed]
    return np.concatenate([np.zeros(BASE, np.uint8),
                           np.frombuffer(b"".join(records), np.uint8)])


@examples(200)
@given(st.lists(commands, min_size=1, max_size=5), values(HEADER))
def test_words_survive(listed, header):
    memory = image(listed, header)
    lines = disassemble(memory, BASE)
    codes = [fields["opcode"] for fields in listed]
    told = codes.index(Opcode.END) + 1 if Opcode.END in codes else len(codes)  # to its end
    assert len(lines) == 1 + told
    assert assemble("\n".join(lines)) == program_bytes(memory, BASE)


@examples(200)
@given(st.lists(st.integers(0, (1 << sum(field.bits for field in INSTRUCTION.values())) - 1),
                min_size=1, max_size=8))
def test_lists_of_instructions_survive(words):
    last = INSTRUCTION["last"]
    listed = 0
    for index, word in enumerate(words):
        final = int(index == len(words) - 1)
        listed |= (word & ~(1 << last.low) | final << last.low) << 32 * index
    assert parse_list(list_text(listed)) == listed


@examples(300)
@given(st.lists(commands, min_size=1, max_size=3), st.data())
def test_edited_text_is_read_or_refused_in_one_line(listed, data):
    text = "\n".join(disassemble(image(listed, {}), BASE))
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.sampled_from(["", ",", "@", "/", "0x", "-", "→", "ᵀ", " ", "9", "{", "end"]))
    edited = text[:at] + put + text[at + data.draw(st.integers(0, 4)):]
    try:
        words = assemble(edited)
    except AssemblyError as error:
        assert "\n" not in str(error)
        return
    memory = np.concatenate([np.zeros(BASE, np.uint8), np.frombuffer(words, np.uint8)])
    assert assemble("\n".join(disassemble(memory, BASE))) == words
