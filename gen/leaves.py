"""The leaf library: converts each distinct component once and keeps a count of every module.

The hardware names its repeated components with ``hdl.lib.leaf.shared``; while a ``Library`` is in
use, such a component becomes an ``Instance`` of a module that is converted once per
``leaf_name``. The modules are kept as RTLIL, of which ``gen.verilog`` makes Verilog.
"""

import gc
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

from amaranth.back import rtlil
from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Elaboratable,
    EnableInserter,
    Instance,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring

from gen.amaranth_private import directed, fields_of, mark_used, quick_netlists
from gen.identity import class_name, parameters, plain, surely_equal
from gen.sram import SRAM, SRAM_FORMS, sram_module
from gen.synchroniser import SYNCHRONISER, synchroniser_module
from gen.verilog import ModuleWriter, write
from gen.verilog.names import IDENTIFIER, RESERVED
from gen.verilog.rtlil import Module, parse
from hdl.lib.leaf import using
from hdl.spec.surroundings import Surroundings

__all__ = ["Converted", "Library", "check_name", "component_ports"]

_OWN = "ottava_"  # what the names of our macros begin with
_ENABLE = "clken"  # a leaf's port; that of the whole accelerator has a name of its own


@dataclass(frozen=True)
class Converted:
    """A component and its RTLIL: its own module, ``modules[0]``, and those of its private
    submodules."""

    name: str
    component: wiring.Component = field(repr=False)
    modules: tuple[Module, ...] = field(repr=False)

    @property
    def rtlil(self) -> str:
        """Text of all modules."""
        return "".join(module.text for module in self.modules)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``rtlil``: equal digests are equal hardware, instances by name."""
        return hashlib.sha256(self.rtlil.encode()).hexdigest()

    @cached_property
    def ports(self) -> frozenset[str]:
        """Names of all ports, ``clk`` and ``rst`` included where the component is clocked."""
        return frozenset(port.name[1:] for port in self.modules[0].ports)


def component_ports(component: wiring.Component) -> dict[str, tuple[Value, wiring.Flow]]:
    """Flat ports of ``component``: name (path joined with ``__``) to signal and direction.

    Members that are constants (``always_ready``, ``always_valid``) are no ports. A name that is
    reserved in Verilog gets a ``_`` at its end.
    """
    ports = {}
    for path, member, value in component.signature.flatten(component):
        signal = Value.cast(value)
        if type(signal).__name__ == "Signal":
            name = "__".join(map(str, path))
            ports[name + "_" if name in RESERVED else name] = (signal, member.flow)
    return ports


def check_name(name: str) -> None:
    """``ValueError`` where no module of Verilog may have this name."""
    if not IDENTIFIER.match(name) or name in RESERVED:
        raise ValueError(f"module name must be a legal Verilog identifier, not {name!r}")


class Library:
    """Implements ``hdl.lib.leaf.LeafLibrary``; every module's name starts with ``prefix``.

    A reference connects every port of the component by name, and the clock and the reset of
    domain ``sync`` where the module has them. ``DomainRenamer`` reaches these; ``ResetInserter``
    and ``EnableInserter`` around the parent do not reach into a shared leaf, as they do not reach
    into any ``Instance``: a leaf takes such controls as ports.

    A component whose name is known is the known one where their classes and parameters are equal;
    where these are not, it is converted too, and refused unless its RTLIL is the same.

    ``sram``, one of ``gen.sram.SRAM_FORMS``, says how the text defines the memories. ``check``
    converts every component and compares it, also where class and parameters are equal.
    ``surroundings``: resets of registers, their values at power-up, and whether each clocked module
    has a port ``clken``.

    Raises ``ValueError`` where a name is not a legal identifier, or is used for two components
    with different ports or insides, or where two modules would get the same name.
    """

    def __init__(self, prefix: str = "", sram: str = "infer", check: bool = False,
                 surroundings: Surroundings | None = None) -> None:
        if prefix and not IDENTIFIER.match(prefix):
            raise ValueError(f"prefix must be a legal Verilog identifier, not {prefix!r}")
        if sram not in SRAM_FORMS:
            raise ValueError(f"sram must be one of {', '.join(SRAM_FORMS)}, not {sram!r}")
        self.prefix = prefix
        self.sram = sram
        self.check = check
        self.surroundings = surroundings or Surroundings()
        self.fpga = self.surroundings.fpga
        self.enable = Signal(name=_ENABLE) if self.surroundings.clock_enable else None
        self._converted: dict[str, Converted] = {}
        self._modules: dict[str, Module] = {}
        self._macros: dict[str, str] = {}

    @property
    def modules(self) -> dict[str, Converted]:
        """Every converted component by the name of its module, leaves before their parents."""
        return dict(self._converted)

    @property
    def rtlil(self) -> str:
        """Text of all modules but the macros."""
        return "".join(module.rtlil for module in self._converted.values())

    @property
    def macros(self) -> dict[str, str]:
        """Verilog-2005 text of every macro by the name of its module."""
        return dict(self._macros)

    @property
    def macro_text(self) -> str:
        """Verilog-2005 text of the macros."""
        return "".join(self._macros.values())

    def writers(self) -> list[ModuleWriter]:
        """One for each module but the macros, in the order of the text."""
        return write(self._modules.values(), self.surroundings.power_up == "reset")

    def verilog(self) -> str:
        """Verilog-2005 text of all modules, the macros last."""
        return "".join(writer.text() for writer in self.writers()) + self.macro_text

    def macro(self, name: str) -> str:
        """The prefixed name of macro ``name``, whose text becomes part of the library's."""
        if name not in (SRAM, SYNCHRONISER):
            raise ValueError(f"macro must be {SRAM} or {SYNCHRONISER}, not {name!r}")
        full = self._named(name)
        self._macros[full] = (sram_module(full, self.sram, self.fpga) if name == SRAM
                              else synchroniser_module(full))
        return full

    def _named(self, name: str) -> str:
        """``name`` behind the prefix, which is not said twice."""
        return name if self.prefix == _OWN and name.startswith(_OWN) else self.prefix + name

    def reference(self, component: wiring.Component) -> Elaboratable:
        """An ``Instance`` of ``component``'s module, which is converted when met first."""
        # Two texts of one design may share leaves: those for an FPGA are others.
        name = self._named(component.leaf_name + ("_fpga" if self.fpga else ""))
        known = self._converted.get(name)
        if known is None:
            known = self.add(component, name)
        else:
            mark_used(component)  # its hardware is in the library: it did its work
            if self.check or not surely_equal(known.component, component):
                self._compare(known, component)
        ports = {
            f"{'i' if flow == wiring.In else 'o'}_{port}": signal
            for port, (signal, flow) in component_ports(component).items()}
        if "clk" in known.ports:
            ports["i_clk"] = ClockSignal()
        if _ENABLE in known.ports:
            ports[f"i_{_ENABLE}"] = self.enable
        if "rst" in known.ports:
            ports["i_rst"] = ResetSignal(allow_reset_less=True)
        return Instance(name, **ports)

    def _compare(self, known: Converted, component: wiring.Component) -> None:
        """Refuse ``component`` unless it is the hardware that its name stands for already."""
        differ = ""
        if known.component.signature != component.signature:
            differ = "ports"
        elif self._convert(component, known.name).digest != known.digest:
            differ = "insides"
        if differ:
            both = " and ".join(f"{class_name(one)}({_listed(one)})"
                                for one in (known.component, component))
            raise ValueError(f"leaf {known.name!r} names two components with different {differ}: "
                             f"{both}")

    def add(self, component: wiring.Component, name: str) -> Converted:
        """Convert ``component`` to module ``name``, and the leaves inside it to theirs."""
        mark_used(component)  # refused or converted, it needs no other user
        check_name(name)
        converted = self._convert(component, name)
        for module in converted.modules:
            if module.name in self._modules or module.name[1:] in self._macros:
                raise ValueError(f"two modules are called {module.name[1:]!r}")
        # Private submodules stand before the module that holds them, as leaves do.
        self._modules |= {module.name: module for module in reversed(converted.modules)}
        self._converted[name] = converted
        return converted

    def _convert(self, component: wiring.Component, name: str) -> Converted:
        ports = component_ports(component)
        modules = self._modules_of(component, name, ports)
        if self.enable is not None and "\\clk" in {port.name for port in modules[0].ports}:
            modules = self._modules_of(EnableInserter({"sync": self.enable})(component), name,
                                       ports | {_ENABLE: (self.enable, wiring.In)})
        return Converted(name, component, modules)

    def _modules_of(self, component: Elaboratable, name: str,
                    ports: Mapping[str, tuple[Value, wiring.Flow]]) -> tuple[Module, ...]:
        """The RTLIL of ``component``, its own module first."""
        with using(self), quick_netlists() as structured, _no_collection():
            text = rtlil.convert(component, name=name, ports=directed(ports), emit_src=False,
                                 missing_domain=self._domain)
            modules = parse(text)
            for module in modules:
                module.fields |= {f"\\{wire}": partial(fields_of, signal) for wire, signal
                                  in structured.get(module.name[1:], {}).items()}
        names = Counter(module.name[1:] for module in modules)
        if len(names) < len(modules):
            raise ValueError(f"two modules are called {names.most_common(1)[0][0]!r}")
        return tuple(modules)

    def _domain(self, name: str) -> ClockDomain:
        """The domain of a component that has none of its own."""
        return ClockDomain(name, async_reset=self.surroundings.asynchronous)


def _listed(component: wiring.Component) -> str:
    return ", ".join(f"{name.lstrip('_')}={plain(value)!r}"
                     for name, value in parameters(component).items())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector: converting makes millions of objects, nearly none of
    them cyclic garbage, and searching them would take two fifths of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
