"""Faults of the bus: errors on reads and writes of every client, and channels that fall silent."""

import numpy as np

from hdl.spec.commands import COMMAND_BYTES, HEADER_BYTES, TENSORS, ErrorCause, Feature, Opcode
from hdl.spec.registers import CLIENTS
from sim.campaigns.faults.injection import STOP, Action, Injection, Maker, NotApplicable, kind
from sim.harness.accelerator import DECERR, SLVERR, Fault, Freeze
from sim.harness.stalls import CHANNELS

_NUMBERS = {name: number for number, (name, _) in enumerate(CLIENTS)}
_PROGRAM, _WRITER = _NUMBERS["program"], _NUMBERS["results"]
_NAMES = {"A": ("a",), "B": ("b",), "Y": ("y0", "y1")}
_RESPONSES = {"SLVERR": SLVERR, "DECERR": DECERR}


def _span(make: Maker, positions: np.ndarray) -> tuple[int, int]:
    """A random byte of a tensor at ``positions`` in the image, sometimes with some after it."""
    first = int(make.pick(positions))
    end = first + 1 if make.flag() else min(first + 1 + make.below(40), int(positions[-1]) + 1)
    return make.target.case.base + first, make.target.case.base + end


def _spoiled_fetch(make: Maker, index: int, size: int, response: int) -> Injection:
    at = make.target.offset(index)
    first = make.target.case.base + at + make.below(size)
    return Injection(
        make.target, faults=(Fault(first, first + 1, response, writes=False),),
        errors=frozenset({(ErrorCause.READ_ERROR,)}),
        addresses=frozenset({make.target.address(index)}),
        clients=frozenset({_PROGRAM}), response=response)


def _spoiled_operand(make: Maker, names: tuple[str, ...], opcodes: str, response: int
                     ) -> Injection:
    target = make.target
    index, name = make.pick((i, name) for i in target.computing for name in names
                            if target.uses(i, name) and _is(target, i, opcodes))
    first, end = _span(make, target.footprint(index, name))
    hit = target.readers(first, end)
    return Injection(
        target, faults=(Fault(first, end, response, writes=False),),
        errors=frozenset({(ErrorCause.READ_ERROR,)}),
        addresses=frozenset(target.address(i) for i, _ in hit),
        clients=frozenset(_NUMBERS[target.client(*one)] for one in hit), response=response)


def _is(target, index: int, opcodes: str) -> bool:
    return opcodes == "any" or target.records[index]["opcode"] == Opcode[opcodes.upper()]


def _enter_errors(label: str, response: int) -> None:
    kind(f"{label} on R: header")(
        lambda make: _spoiled_fetch(make, -1, HEADER_BYTES, response))
    kind(f"{label} on R: command")(
        lambda make: _spoiled_fetch(make, make.below(make.target.end + 1), COMMAND_BYTES, response))
    for name, names in _NAMES.items():
        opcodes = "gemm" if name == "A" else "any"
        kind(f"{label} on R: {name}")(
            lambda make, names=names, opcodes=opcodes:
            _spoiled_operand(make, names, opcodes, response))
    kind(f"{label} on R: X")(lambda make: _spoiled_operand(make, ("a",), "vector", response))
    kind(f"{label} on R: scalars", needs=(Feature.BACKWARD,))(
        lambda make: _spoiled_scalars(make, response))
    kind(f"{label} on B", 2)(lambda make: _spoiled_write(make, response))


def _spoiled_scalars(make: Maker, response: int) -> Injection:
    target = make.target
    index = make.pick(target.scalars)
    spoiled = make.pick(target.scalars[index]) + target.case.base
    # The first command that reads any word of the same beat fails.
    width = target.config.bus_bytes
    first = min(i for i, places in target.scalars.items() for at in places
                if (at + target.case.base) // width == spoiled // width)
    return Injection(
        target, faults=(Fault(spoiled, spoiled + 1, response, writes=False),),
        errors=frozenset({(ErrorCause.READ_ERROR,)}),
        addresses=frozenset({target.address(first)}), clients=frozenset({_PROGRAM}),
        response=response)


def _spoiled_write(make: Maker, response: int) -> Injection:
    target = make.target
    index = make.pick(target.computing)
    first, end = _span(make, target.written(index))
    hit = [i for i in target.computing
           if np.isin(target.written(i) + target.case.base, range(first, end)).any()]
    return Injection(
        target, faults=(Fault(first, end, response, reads=False),),
        errors=frozenset({(ErrorCause.WRITE_ERROR,)}),
        addresses=frozenset(target.address(i) for i in hit),
        clients=frozenset({_WRITER}), response=response)


for _label, _response in _RESPONSES.items():
    _enter_errors(_label, _response)


@kind("DECERR: program outside memory")
def _program_nowhere(make: Maker) -> Injection:
    address = HEADER_BYTES * make.below(1 << 26)
    injection = make.refused(-1, ErrorCause.READ_ERROR, {}, address=address,
                             clients=frozenset({_PROGRAM}), response=DECERR)
    injection.addresses = frozenset({address})
    return injection


@kind("DECERR: scalars outside memory", needs=(Feature.BACKWARD,))
def _scalars_nowhere(make: Maker) -> Injection:
    return Injection(make.target, make.record(-1, {"scalars": 2 * make.below(1 << 31)}),
                     errors=frozenset({(ErrorCause.READ_ERROR,)}),
                     addresses=frozenset({make.target.address(make.first_taker())}),
                     clients=frozenset({_PROGRAM}), response=DECERR)


@kind("DECERR: tensor outside memory")
def _tensor_nowhere(make: Maker) -> Injection:
    target = make.target
    index, name = make.pick((i, name) for i in target.computing for name in TENSORS
                            if target.uses(i, name))
    cause = ErrorCause.WRITE_ERROR if TENSORS[name].written else ErrorCause.READ_ERROR
    patches = make.record(index, {f"{name}_address": 2 * make.below(1 << 31)})
    return Injection(target, patches, errors=frozenset({(cause,)}),
                     addresses=frozenset({target.address(index)}),
                     clients=frozenset({_NUMBERS[target.client(index, name)]}), response=DECERR)


@kind("bus error and STOP", 2)
def _error_and_stop(make: Maker) -> Injection:
    response = make.pick(_RESPONSES.values())
    if make.flag():
        injection = _spoiled_write(make, response)
    else:
        read = tuple(name for name, tensor in TENSORS.items() if not tensor.written)
        injection = _spoiled_operand(make, read, "any", response)
    injection.action = Action(make.below(make.target.cycles), STOP)
    injection.errors |= {(ErrorCause.STOPPED,)}
    injection.addresses = make.target.addresses
    injection.clients = injection.response = None
    return injection


# A bus that falls silent

def _silent(make: Maker, channel: str, way: str) -> Injection:
    target = make.target
    if target.transfers is None:
        raise NotApplicable
    after = make.below(target.transfers[channel])
    stuck = (ErrorCause.BUS_STUCK,)
    causes: list[tuple[ErrorCause, ...]] = [stuck]
    injection = Injection(target, freeze=Freeze(channel, after), thaw=make.flag())
    if way == "watchdog":
        injection.watchdog = 1 + make.below(2 * target.cycles)
        causes += [(ErrorCause.WATCHDOG,), (ErrorCause.WATCHDOG, *stuck)]
    elif way == "STOP":
        injection.action = Action(make.below(2 * target.cycles), STOP)
        causes += [(ErrorCause.STOPPED,), (ErrorCause.STOPPED, *stuck)]
    else:
        injection.clients = (frozenset(range(_WRITER)) if channel in ("ar", "r")
                             else frozenset({_WRITER}))
        injection.response = 0
    injection.errors = frozenset(causes)
    injection.addresses = target.addresses
    return injection


for _channel in CHANNELS:
    for _way in ("alone", "watchdog", "STOP"):
        kind(f"silent {_channel}: {_way}")(
            lambda make, channel=_channel, way=_way: _silent(make, channel, way))
