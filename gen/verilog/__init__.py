"""Verilog-2005 of the records of RTLIL: the same text on every machine, no paths, no dates."""

from collections.abc import Iterable

from gen.verilog.module import WAKE_UP, ModuleWriter
from gen.verilog.rtlil import Module

__all__ = ["WAKE_UP", "ModuleWriter", "write"]


def write(modules: Iterable[Module], initial: bool = True) -> list[ModuleWriter]:
    """A writer for each of ``modules``, which know each other's ports.

    A module that is instantiated and not among them is one with plain names. ``initial``: registers
    have the values at power-up that the RTLIL gives them.
    """
    ports: dict[str, dict[str, str]] = {}
    writers = []
    for module in modules:
        writer = ModuleWriter(module, ports, initial)
        ports[module.name] = writer.names
        writers.append(writer)
    return writers
