"""Faults of programs: headers and commands that a build must refuse, each with its cause.

What can be spoiled in a command follows from the rules of ``hdl.spec``.
"""

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    COMPUTING,
    HEADER_BYTES,
    INSTRUCTION,
    INSTRUCTIONS,
    ISA_MAJOR,
    STAGES,
    TENSORS,
    AtLeast,
    Destination,
    ErrorCause,
    Feature,
    Opcode,
    Operand,
    Reduce,
    Role,
    features_of,
    isa_minor,
    members,
    pack,
    reserved_mask,
    roles,
    unpack,
)
from hdl.spec.config import COUNT_MOST, AcceleratorConfig
from hdl.spec.formats import FORMATS
from hdl.spec.timing import row_columns
from sim.campaigns.faults.injection import Injection, Maker, NotApplicable, kind
from sim.model.command import Command
from sim.model.memory import ProgramError

_STORE: dict[str, int] = {"destination": Destination.MEMORY}
_TRIES = 200
_RECORD_BITS = 8 * COMMAND_BYTES


# Headers

@kind("header: magic")
def _magic(make: Maker) -> Injection:
    word = int.from_bytes(b"OTVA", "little") ^ 1 << make.below(32)
    return make.refused(-1, ErrorCause.BAD_MAGIC, make.record(-1, {"magic": word}))


@kind("header: version")
def _version(make: Maker) -> Injection:
    newest = isa_minor(make.config)
    wrong = ({"isa_major": make.pick(v for v in (0, 2, 9, 0xFFFF) if v != ISA_MAJOR)}
             if make.flag() else {"isa_minor": newest + 1 + make.below(0xFFFF - newest)})
    return make.refused(-1, ErrorCause.BAD_VERSION, make.record(-1, wrong))


@kind("header: feature")
def _feature(make: Maker) -> Injection:
    built = int(features_of(make.config))
    lacking = make.pick(1 << bit for bit in range(32) if not built >> bit & 1)
    return make.refused(-1, ErrorCause.BAD_FEATURE, make.record(-1, {"features": lacking}))


@kind("header: program of another build")
def _other_build(make: Maker) -> Injection:
    built = features_of(make.config)
    others = (AcceleratorConfig(name) for name in FORMATS)
    other = make.pick(c for c in others if features_of(c) & ~built)
    changes = {"features": int(features_of(other)), "config_hash": other.hash}
    return make.refused(-1, ErrorCause.BAD_FEATURE, make.record(-1, changes))


@kind("header: length 0")
def _no_length(make: Maker) -> Injection:
    return make.refused(-1, ErrorCause.BAD_LENGTH, make.record(-1, {"commands": 0}))


@kind("header: no END within its count")
def _no_end(make: Maker) -> Injection:
    if make.flag():
        count = 1 + make.below(make.target.end)
        return make.refused(count, ErrorCause.BAD_LENGTH, make.record(-1, {"commands": count}))
    end = make.target.end
    patches = make.record(end, {"opcode": int(Opcode.FENCE)})
    injection = make.refused(end, ErrorCause.BAD_LENGTH, patches)
    injection.addresses = frozenset({make.target.address(end) + COMMAND_BYTES})
    return injection


@kind("header: misaligned program")
def _misaligned_program(make: Maker) -> Injection:
    address = make.target.case.address + 1 + make.below(HEADER_BYTES - 1)
    injection = make.refused(-1, ErrorCause.MISALIGNED, {}, address=address)
    injection.addresses = frozenset({address})
    return injection


# Commands

def _verdict(make: Maker, patches: dict[int, bytes]) -> ErrorCause | None:
    """What the reference model says to the patched command."""
    record, = patches.values()
    reserved = int.from_bytes(record, "little") & reserved_mask(COMMAND, _RECORD_BITS)
    try:
        Command(make.config, unpack(COMMAND, record) | {"reserved": reserved}).check()
    except ProgramError as error:
        return error.cause
    return None


def _refused_command(make: Maker, cause: ErrorCause, propose) -> Injection:
    """The first of the changes that ``propose(fields)`` gives to which the model says ``cause``.

    Checks come in an order, so that a change may be refused for another reason.
    """
    for _ in range(_TRIES):
        index = make.pick(make.target.computing)
        patches = make.record(index, propose(make.target.records[index]))
        if _verdict(make, patches) == cause:
            return make.refused(index, cause, patches)
    raise NotApplicable


@kind("command: opcode")
def _opcode(make: Maker) -> Injection:
    return _refused_command(make, ErrorCause.BAD_OPCODE,
                            lambda _: {"opcode": make.pick((0, *Opcode, make.below(256)))})


def _beyond(make: Maker, cause: ErrorCause) -> dict[str, int]:
    """A value that some limit of a field refuses with ``cause``."""
    field, limit = make.pick((field, limit) for field in COMMAND.values()
                             for limit in field.limits if limit.cause == cause)
    if isinstance(limit, AtLeast):
        return {field.name: make.below(limit.least)}
    most = limit.most if isinstance(limit.most, int) else getattr(make.config, limit.most)
    top = (1 << field.bits) - 1
    values = (most + 1, most + 1 + make.below(top - most), COUNT_MOST, COUNT_MOST + 1, top)
    return {field.name: make.pick(value for value in values if most < value <= top)}


@kind("command: zero M, K or N")
def _zero(make: Maker) -> Injection:
    return _refused_command(make, ErrorCause.BAD_SHAPE,
                            lambda _: _beyond(make, ErrorCause.BAD_SHAPE))


@kind("command: M, K or N beyond 2^24 - 1")
def _oversize(make: Maker) -> Injection:
    return _refused_command(make, ErrorCause.OVERSIZE,
                            lambda _: _beyond(make, ErrorCause.OVERSIZE))


@kind("command: K beyond k_max", accs=("exact", "int32"))
def _k_range(make: Maker) -> Injection:
    return _refused_command(make, ErrorCause.K_RANGE,
                            lambda _: _beyond(make, ErrorCause.K_RANGE))


@kind("command: row beyond a bank")
def _long_row(make: Maker) -> Injection:
    room = row_columns(make.config)
    return _refused_command(make, ErrorCause.OVERSIZE, lambda _: {
        "n": make.pick((room + 1, COUNT_MOST, room + 1 + make.below(COUNT_MOST - room))),
        "instructions": _words({"destination": Destination.BUFFER}, _STORE)})


@kind("command: reserved bit")
def _reserved_bit(make: Maker) -> Injection:
    index = make.pick(make.target.computing)
    mask = reserved_mask(COMMAND, _RECORD_BITS)
    bit = make.pick(bit for bit in range(_RECORD_BITS) if mask >> bit & 1)
    (at, record), = make.record(index, {}).items()
    patched = (int.from_bytes(record, "little") | 1 << bit).to_bytes(COMMAND_BYTES, "little")
    return make.refused(index, ErrorCause.BAD_FIELD, {at: patched})


@kind("command: field of no meaning")
def _field(make: Maker) -> Injection:
    strict = [field for field in COMMAND.values() if field.strict]

    def change(_: dict[str, int]) -> dict[str, int]:
        field = make.pick(strict)
        most = min((1 << field.bits) - 1, COUNT_MOST)
        return {other.name: other.default for other in strict} | {
            "opcode": int(make.pick(COMPUTING)), field.name: 1 + make.below(most)}
    return _refused_command(make, ErrorCause.BAD_FIELD, change)


def _words(*instructions: dict[str, int], last: bool = True) -> int:
    words = 0
    for index, fields in enumerate(instructions):
        marked = fields | {"last": int(last and index == len(instructions) - 1)}
        word = pack(INSTRUCTION, {name: int(value) for name, value in marked.items()}, 4)
        words |= int.from_bytes(word, "little") << 32 * index
    return words


def _bad_instruction(make: Maker) -> dict[str, int]:
    """One field beyond its enumeration, two stages that take Y, or an item of each row for C."""
    unknown = {name: set(range(1 << field.bits)) - set(members(name, make.config))
               for name, field in INSTRUCTION.items() if field.kind is not None}
    name = make.pick((*(name for name, values in unknown.items() if values), "two", "rows"))
    if name == "rows":
        return _STORE | {"rows": 1}
    if name == "two":
        first = make.pick(STAGES)
        second = make.pick(stage for stage in STAGES if stage != first)
        return _STORE | {first: Operand.Y, second: Operand.Y}
    return _STORE | {name: make.pick(sorted(unknown[name]))}


def _bad_list(make: Maker) -> int:
    """An instruction list with something wrong in it."""
    before = [{"reduce": Reduce.MAX, "reduce_to": 0}] * make.below(INSTRUCTIONS - 1)
    what = make.below(5)
    if what == 0:
        return _words(*before, _bad_instruction(make))
    if what == 1:  # the end is not marked
        return _words(*[_STORE] * INSTRUCTIONS, last=False)
    if what == 2:  # nothing reduces into R1
        return _words(*before, _STORE | {make.pick(STAGES): Operand.R1})
    if what == 3:
        used = max(f.low + f.bits for f in INSTRUCTION.values())
        return _words(*before, _STORE) | 1 << used + make.below(32 - used) + 32 * len(before)
    return 0


@kind("command: instruction list", 3)
def _list(make: Maker) -> Injection:
    return _refused_command(make, ErrorCause.BAD_FIELD,
                            lambda _: {"instructions": _bad_list(make)})


@kind("command: index beyond its table")
def _index(make: Maker) -> Injection:
    """A vector command made a gather whose first index is the header's magic number."""
    target = make.target
    index = make.pick(i for i in target.computing if target.records[i]["opcode"] == Opcode.VECTOR)
    patches = make.record(index, {"x_gather": 1, "k": 1 + make.below(COUNT_MOST),
                                  "b_address": target.address(-1)})
    return Injection(target, patches, errors=frozenset({(ErrorCause.INDEX_RANGE,)}),
                     addresses=frozenset({target.address(index)}))


@kind("command: odd table of scalars", needs=(Feature.BACKWARD,))
def _odd_scalars(make: Maker) -> Injection:
    return make.refused(make.first_taker(), ErrorCause.MISALIGNED,
                        make.record(-1, {"scalars": 1 + 2 * make.below(1 << 31)}))


@kind("command: odd BF16 tensor", 2)
def _odd(make: Maker) -> Injection:
    def change(fields: dict[str, int]) -> dict[str, int]:
        told = roles(make.pick(TENSORS))
        place = told[make.pick(role for role in (Role.ADDRESS, Role.OFFSET, Role.STRIDE)
                               if role in told)].name
        wide = {told[Role.WIDE].name: 1} if Role.WIDE in told else {}
        return {place: fields[place] | 1} | wide
    return _refused_command(make, ErrorCause.MISALIGNED, change)
