"""Random accesses of a host to the control registers that must not change what a program does."""

import ctypes
from functools import cache

from hdl.spec.commands import ISA_MAJOR, features_of, isa_minor
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTERS, IDENTITY, REGISTERS, Register

__all__ = ["WORDS", "TrafficWord", "harmless_traffic"]

WORDS = 1024
_ALL = 0xFFFF_FFFF
# Above any program's length: a watchdog that is set to it, in part or whole, never ends one.
_LONG = 1 << 24


class TrafficWord(ctypes.Structure):
    """``TrafficWord`` of lite_host.hpp: what may be written to a word, what is read there."""

    _fields_ = [(name, ctypes.c_uint32)
                for name in ("value", "known", "allowed", "forced", "stored")]


def _mask(register: Register, *access: str) -> int:
    return sum((1 << field.bits) - 1 << field.low
               for field in register.fields if field.access in access)


@cache
def harmless_traffic(config: AcceleratorConfig, program_address: int) -> ctypes.Array:
    """The words of a control port while the program at ``program_address`` runs without error.

    Excluded are the writes that act: START, STOP and SOFT_RESET of CONTROL, ones to INTERRUPT,
    clearing INTERRUPT_ENABLE (it holds 3), a short WATCHDOG (it is off at first). All else may
    be written: what is read only, reserved or a hole stays as it is.
    """
    counters = {f"{name}_{half}" for name, _ in COUNTERS for half in ("LOW", "HIGH")}
    known = {
        "IDENTITY": IDENTITY, "CONFIG_HASH_LOW": config.hash & _ALL,
        "CONFIG_HASH_HIGH": config.hash >> 32, "FEATURES": int(features_of(config)),
        "ISA_VERSION": ISA_MAJOR << 16 | isa_minor(config), "INTERRUPT_ENABLE": 0b11, "CONTROL": 0,
        "SHAPE": config.dim | config.lanes << 8 | config.bus_bytes << 16 | len(COUNTERS) << 24,
        "PROGRAM_LOW": program_address & _ALL, "PROGRAM_HIGH": program_address >> 32,
        "ERROR": 0, "WATCHDOG": 0, "COUNTER_CONTROL": 0,
    }
    words = (TrafficWord * WORDS)()
    for word in words:
        word.known = word.allowed = _ALL  # a hole
    for register in REGISTERS:
        word = words[register.offset // 4]
        word.value = known.get(register.name, 0)
        word.stored = _mask(register, "rw")
        if register.name not in known:
            word.known = _ALL & ~_mask(register, "ro", "w1c")
        if register.name in counters:
            word.known = 0
    for name, acting in (("CONTROL", 0b111), ("INTERRUPT", 0b11), ("INTERRUPT_ENABLE", 0b11),
                         ("WATCHDOG", _ALL)):
        offset = next(register.offset for register in REGISTERS if register.name == name)
        words[offset // 4].allowed = _ALL & ~acting
        if name == "INTERRUPT_ENABLE":
            words[offset // 4].forced = 0b11
        elif name == "WATCHDOG":
            words[offset // 4].allowed = _ALL & ~(_LONG - 1)
            words[offset // 4].forced = _LONG
    return words
