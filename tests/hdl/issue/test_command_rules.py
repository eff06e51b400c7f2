"""Two statements of what is valid, one field at a time: the hardware's check, written by hand, and
the table of ``hdl.spec``, by which the model decides."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from compiler.program.records import RESERVED, join
from gen.leaves import Library
from gen.recorder import record
from hdl.issue.command_check import CommandCheck
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    INSTRUCTION,
    ErrorCause,
    Feature,
    Opcode,
    Operand,
    Reduce,
    Role,
    Trait,
    When,
    isa_minor,
    members,
    pack,
    reserved_mask,
)
from hdl.spec.config import AcceleratorConfig
from sim.harness.batch import Batch
from sim.model import command as model
from sim.model.command import Command
from support.sabotage import with_fault

BLANK = dict.fromkeys([*COMMAND, RESERVED], 0)
CYCLES = 11  # for a command: the start, eight instructions, the verdict
BUILDS = {
    "posit8": AcceleratorConfig("posit8", dim=4),
    "posit8, softmax alone": AcceleratorConfig("posit8", dim=4, functions="softmax"),
    "posit8, training": AcceleratorConfig("posit8", dim=4, functions="training"),
    "fp8": AcceleratorConfig("fp8", dim=4),
    "fp8, exact": AcceleratorConfig("fp8", dim=4, acc="exact", k_max=1000),
    "bf16": AcceleratorConfig("bf16", dim=4),
    "int8": AcceleratorConfig("int8", dim=4),
    "int8, fixed": AcceleratorConfig("int8", dim=4, lane_kind="fixed"),
}
COMMAND_RESERVED, INSTRUCTION_RESERVED = (
    [bit for bit in range(bits) if reserved_mask(table, bits) >> bit & 1]
    for table, bits in ((COMMAND, 8 * COMMAND_BYTES), (INSTRUCTION, 32)))
STORE, BUFFER = {"destination": 2}, {"destination": 1}
LISTS = {
    "store": [STORE],
    "nothing": [{}],
    "buffer": [BUFFER, STORE],
    "registers": [{"reduce": 1}, {"reduce": 2, "reduce_to": 1},
                  {"add": Operand.R0, "multiply": Operand.R1} | STORE],
    "reduce and store": [{"reduce": 2} | STORE],
    "R0 unfilled": [{"multiply": Operand.R0} | STORE],
    "largest": [{"reduce": Reduce.AMAX} | STORE],
    "A": [{"add": Operand.A} | STORE],
    "items": [{"reduce": 1}, {"add": Operand.R0, "destination": 3, "rows": 1}, STORE],
    "items without their bit": [{"destination": 3}, STORE],
    "rows in C": [{"rows": 1} | STORE],
    "Y0, Y1": [{"add": Operand.Y}, {"scale": Operand.Y, "y": 1} | STORE],
    "eight": [{}] * 7 + [STORE],
}


def listed(steps, last=True):
    """The 256 bits; a step's field ``RESERVED`` holds bits of no field."""
    words = 0
    for index, step in enumerate(steps):
        ends = {"last": int(last and index == len(steps) - 1)}
        values = {name: int(value) for name, value in (ends | step).items()}
        words |= int.from_bytes(join(INSTRUCTION, values, 4), "little") << 32 * index
    return words


def values_of(field):
    """Some of each class: what is legal, the limits, beyond them, odd and even."""
    top = (1 << field.bits) - 1
    if field.name in ("opcode", "instructions"):
        return ()
    counts = (999, 1000, 1001, (1 << 24) - 1, 1 << 24) if field.limits else ()
    return sorted({value for value in (0, 1, *counts, top - 1, top) if value <= top})


def contexts():
    """Commands into which a value is put: each list; each flag alone with most of them."""
    for steps in LISTS.values():
        yield {"instructions": listed(steps)}
    for name in ("store", "registers", "reduce and store", "R0 unfilled", "Y0, Y1"):
        for flag, field in COMMAND.items():
            if field.bits == 1:
                yield {"instructions": listed(LISTS[name]), flag: 1}


@cache
def cases():
    """(field, command) for each field, opcode, value and context; none twice."""
    return list(every())


def every():
    for opcode in range(256):
        yield "opcode", {"opcode": opcode, "m": 0}
        yield "opcode", {"opcode": opcode, "m": 3, "k": 1, "n": 5, "instructions": listed([STORE])}
    seen = set()
    for opcode in (Opcode.GEMM, Opcode.VECTOR):
        base = {"opcode": int(opcode), "m": 3, "k": 1, "n": 5}
        for context in contexts():
            for odd in ({}, {name: 1 for name, f in COMMAND.items() if f.role is Role.STRIDE}):
                for name, field in COMMAND.items():
                    for value in values_of(field):
                        fields = base | context | odd | {name: value}
                        key = tuple(sorted((n, v) for n, v in fields.items() if v))
                        if key not in seen:
                            seen.add(key)
                            yield name, fields
        for bit in COMMAND_RESERVED:
            yield RESERVED, base | {"instructions": listed([STORE]), RESERVED: 1 << bit}
        for name, words in instructions():
            for flags in ({}, {"c_transposed": 1}, {"row_result": 1}, {"row_max": 1},
                          {"y0_address": 1, "y0_wide": 1}, {"y1_address": 1, "y1_wide": 1},
                          {"c_stride": 1, "c_wide": 1}):
                yield name, base | flags | {"instructions": words}
    for opcode in (Opcode.END, Opcode.FENCE):
        for name, field in COMMAND.items():
            for value in values_of(field):
                yield name, {"opcode": int(opcode), name: value}


def instructions():
    """(field, list): every value of each field of an instruction, alone, after two reductions,
    before a last one; bits of no field; two stages at once; lists without an end."""
    before = [{"reduce": 1, "reduce_to": register} for register in (0, 1)]
    for name, field in INSTRUCTION.items():
        for value in range(1 << field.bits):
            for step in ({name: value}, STORE | {name: value},
                         {"reduce": 2} | STORE | {name: value}):
                for steps in ([step], [*before, step], [*before[:1], step], [step, STORE]):
                    yield name, listed(steps)
    for reduce in Reduce:
        for operand in Operand:
            for step in ({"reduce_to": 1}, {"post": 4}, {}):
                kept = {"reduce": reduce, "scale": operand} | step
                yield "reduce", listed([*before, kept, STORE])
                yield "reduce", listed([*before, {"scale": operand}, {"reduce": reduce} | STORE])
                yield "reduce", listed([*before, {"reduce": reduce} | step,
                                        {"multiply": operand} | STORE])
    stages = ("multiply", "add", "scale")
    for first in range(8):
        for second in range(8):
            for one, two in zip(stages, (*stages[1:], stages[0]), strict=True):
                yield one, listed([*before, {one: first, two: second} | STORE])
    for bit in INSTRUCTION_RESERVED:
        yield RESERVED, listed([STORE | {RESERVED: 1 << bit}])
        yield RESERVED, listed([STORE]) | 1 << bit + 32  # after the last one: not looked at
    for count in range(9):
        yield "last", listed([STORE] * count, last=False)


def words_of(fields):
    known = {name: value for name, value in fields.items() if name != RESERVED}
    bits = int.from_bytes(pack(COMMAND, known, COMMAND_BYTES), "little") | fields.get(RESERVED, 0)
    return np.frombuffer(bits.to_bytes(COMMAND_BYTES, "little"), "<u4")


@cache
def words():
    """``cases`` as the hardware is given them, a row each."""
    return np.stack([words_of(fields) for _, fields in cases()])


class Hardware:
    """The check of a build; with ``fault`` it takes the cause ``spoiled`` for another."""

    def __init__(self, config):
        library = Library()
        library.add(CommandCheck(config), "command_check")
        self.spoiled = ErrorCause.K_RANGE if config.exact_sums else ErrorCause.MISALIGNED
        verilog = with_fault(record(library, "command_check"), "cause", int(self.spoiled))
        self.batch = Batch(verilog, "command_check")

    def verdicts(self, words, fault=0):
        """(cause or None, rowwise, stored, count) of each command, a row of ``words``."""
        start = np.zeros((len(words), CYCLES), np.uint8)
        start[:, 0] = 1
        out = self.batch.run({"record": np.repeat(words, CYCLES, axis=0), "start": start.ravel(),
                              "fault": fault})
        by_cycle = {name: value.reshape(-1, CYCLES) for name, value in out.items()}
        done = by_cycle["done"]
        assert (done.sum(axis=1) == 1).all(), "a check must end once, in time"
        found = {name: value[:, -1].tolist() for name, value in by_cycle.items()}
        return [(ErrorCause(cause) if failed else None, bool(rowwise), bool(stored), count)
                for failed, cause, rowwise, stored, count in zip(
                    *(found[name] for name in ("failed", "cause", "rowwise", "stored", "count")),
                    strict=True)]


def said(config, fields):
    """What the table says of a command, as ``Hardware.verdicts``."""
    command = Command(config, BLANK | fields)
    does = command.traits
    return (command.invalid, Trait.WHOLE_ROWS in does, Trait.ON_CHIP in does,
            len(command.instructions))


def equal(one, other, opcode):
    """Equal verdicts; what a command needs counts where it is valid and computes."""
    judged = one[0] is None and opcode in (Opcode.GEMM, Opcode.VECTOR)
    return one == other if judged else one[0] == other[0]


@cache
def judged(name):
    """The hardware of a build, and what it says to each of ``cases``."""
    hardware = Hardware(BUILDS[name])
    return hardware, hardware.verdicts(words())


@pytest.mark.parametrize("name", BUILDS)
def test_the_hardware_refuses_what_the_table_refuses(name):
    config, (hardware, found) = BUILDS[name], judged(name)
    refused = dict.fromkeys(ErrorCause, 0)
    for (field, fields), verdict in zip(cases(), found, strict=True):
        expected = said(config, fields)
        assert equal(verdict, expected, fields["opcode"]), (field, fields, verdict, expected)
        if verdict[0] is not None:
            refused[verdict[0]] += 1
    told = ", ".join(f"{count} {cause.name}" for cause, count in refused.items() if count)
    print(f"{name}: {len(found)} commands of {len({field for field, _ in cases()})} fields, {told}")
    assert all(refused[cause] for cause in model.CHECKED
               if cause != ErrorCause.K_RANGE or config.exact_sums)
    assert sum(refused.values()) < len(found) * 0.8
    # The negative control: a check that is wrong with one cause is found.
    wrong = [index for index, verdict in enumerate(found) if verdict[0] == hardware.spoiled][:50]
    spoiled = hardware.verdicts(words()[wrong], fault=1)
    assert wrong and not any(equal(verdict, found[index], cases()[index][1]["opcode"])
                             for index, verdict in zip(wrong, spoiled, strict=True))


def facts():
    """(what, build, field, change): each statement of the table that makes a command valid, and
    the table without it."""
    for name, field in COMMAND.items():
        if field.strict:
            yield f"{name} strict", "posit8", name, {"strict": False}
        for limit in field.limits:
            kept = tuple(other for other in field.limits if other is not limit)
            yield f"{name} {limit.cause.name}", "fp8, exact", name, {"limits": kept}
        for attribute, without in (("bars", Trait.NOTHING), ("traits", Trait.NOTHING),
                                   ("register", None)):
            if getattr(field, attribute) != without:
                yield f"{name} {attribute}", "posit8", name, {attribute: without}
        if field.role is Role.WIDE:
            yield f"{name} of {field.tensor}", "posit8", name, {"role": Role.GATHER}
    for name, field in INSTRUCTION.items():
        for attribute in ("bars", "only"):
            if getattr(field, attribute):
                build = "int8" if Feature.SCALES in field.needs else "posit8, training"
                yield f"{name} {attribute}", build, name, {attribute: Trait.NOTHING}
    yield "x_wide of VECTOR alone", "posit8", "x_wide", {"used": (When(),)}
    yield "k of x_gather", "posit8", "k", {"used": (When((Opcode.GEMM,)),)}


def meanings():
    """The same of values of an instruction's fields."""
    kinds = dict.fromkeys(field.kind for field in INSTRUCTION.values() if field.kind)
    for member in (member for kind in kinds for member in kind):
        name, told = f"{type(member).__name__} {member.name}", member.meaning
        of_training, of_scales = (feature in told.needs
                                  for feature in (Feature.BACKWARD, Feature.SCALES))
        if Feature.FUNCTIONS in told.needs:
            yield f"{name} needs", "posit8, softmax alone", member, {"needs": ()}
        if (of_training or of_scales) and not told.requires:  # which the build lacks as well
            yield f"{name} needs", "posit8", member, {"needs": ()}
        for attribute in ("fields", "once", "register", "bars", "traits", "tensors",
                          "requires"):
            without = type(told).__dataclass_fields__[attribute].default
            if getattr(told, attribute) != without:
                build = "int8" if of_scales else "posit8, training" if of_training else "posit8"
                yield f"{name} {attribute}", build, member, {attribute: without}


def forget():
    """Let the model read the table anew."""
    model._step.cache_clear()
    model._build.cache_clear()


@pytest.mark.parametrize("what, name, changed, change", [*facts(), *meanings()],
                         ids=lambda value: value if isinstance(value, str) else "")
def test_each_statement_of_the_table_is_needed(what, name, changed, change, monkeypatch):
    # The negative control: without the statement, some command is judged otherwise.
    if isinstance(changed, str):
        field = changed
        table = COMMAND if changed in COMMAND else INSTRUCTION
        monkeypatch.setitem(table, changed, replace(table[changed], **change))
    else:
        field = next(known for known, own in INSTRUCTION.items() if own.kind is type(changed))
        monkeypatch.setattr(changed, "meaning", replace(changed.meaning, **change))
    forget()
    try:
        _, found = judged(name)
        # First the commands in which a value was put into the field: most differ there.
        likely = sorted(zip(cases(), found, strict=True), key=lambda case: case[0][0] != field)
        assert any(not equal(verdict, said(BUILDS[name], fields), fields["opcode"])
                   for (_, fields), verdict in likely), what
    finally:
        monkeypatch.undo()
        forget()


def test_what_a_build_has_is_as_it_is_written_here():
    chosen = [BUILDS[name] for name in ("posit8, training", "posit8", "posit8, softmax alone",
                                        "int8")]
    counts = {name: tuple(len(members(name, config)) for config in chosen)
              for name, field in INSTRUCTION.items() if field.kind}
    assert counts == {"multiply": (8, 7, 6, 7), "add": (7, 6, 6, 6), "function": (11, 9, 3, 9),
                      "scale": (8, 7, 6, 7), "reduce": (4, 3, 3, 3), "post": (5, 4, 2, 6),
                      "destination": (3, 3, 3, 4)}
    assert [isa_minor(config) for config in chosen] == [1, 0, 0, 1]
