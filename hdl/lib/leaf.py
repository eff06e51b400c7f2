"""Shared leaves: emit each distinct component once, whatever the number of its instances.

Amaranth emits one module per instance. A parent that says ``m.submodules.pe = shared(pe)`` gets
``pe`` itself by default, so that simulators see real submodules; inside a generator's library
(``gen.leaves``) it gets an ``Instance`` of a module that is converted once per ``leaf_name``.
``macro`` asks for a module that the library supplies as Verilog, which a user may replace;
``enable`` for the clock enable that reaches what such a module does, where a build has one;
``for_fpga`` whether sums and products are for chains and blocks of an FPGA or for gates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from amaranth.hdl import Elaboratable, Signal
from amaranth.lib import wiring

__all__ = ["LeafLibrary", "enable", "for_fpga", "macro", "shared", "using", "with_latency"]


class LeafLibrary(Protocol):
    """Makes of a component what its parent instantiates instead.

    ``enable``: a port of every clocked module, without which its registers hold, or ``None``.
    ``fpga``: whether the text is for one.
    """

    enable: Signal | None
    fpga: bool

    def reference(self, component: wiring.Component) -> Elaboratable:
        """An elaboratable that connects to ``component``'s ports.

        ``component.leaf_name`` names its module; equal names must mean equal hardware.
        """

    def macro(self, name: str) -> str:
        """The name of the module that the library's text defines for macro ``name``."""


_library: ContextVar[LeafLibrary | None] = ContextVar("leaf_library", default=None)


def shared(component: wiring.Component) -> Elaboratable:
    """``component``, or the current library's reference to it."""
    library = _library.get()
    return component if library is None else library.reference(component)


def with_latency(name: str, latency: int) -> str:
    """``leaf_name`` of hardware that is called ``name`` at a latency of one register per stage."""
    return name if latency == 1 else f"{name}_latency{latency}"


def macro(name: str) -> str | None:
    """The current library's module for macro ``name``; ``None`` where a component builds its own.

    A simulator of Amaranth needs hardware that it can see; a library has the macro's text.
    """
    library = _library.get()
    return None if library is None else library.macro(name)


def enable() -> Signal | None:
    """The current library's clock enable; ``None`` without one.

    Amaranth's ``EnableInserter`` reaches registers and memories, not instances: what a macro does
    at a clock edge is to be done only with this signal.
    """
    library = _library.get()
    return None if library is None else library.enable


def for_fpga() -> bool:
    """Whether the current library's text is for an FPGA, where ``+`` is a carry chain and ``*`` a
    block: what is written gate by gate is small and quick of gates alone. A simulator of Amaranth
    sees the gates; both are the same function."""
    library = _library.get()
    return library is not None and library.fpga


@contextmanager
def using(library: LeafLibrary) -> Iterator[None]:
    """Let ``shared`` consult ``library`` inside the block."""
    token = _library.set(library)
    try:
        yield
    finally:
        _library.reset(token)
