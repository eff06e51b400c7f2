"""The leaf library: converts each distinct component once and keeps a count of every module.

The hardware names its repeated components with ``hdl.lib.leaf.shared``; while a ``Library`` is in
use, such a component becomes an ``Instance`` of a module that is converted once per
``leaf_name``. The modules are kept as RTLIL text; ``gen.verilog`` turns all of them into Verilog
in one call, so that Yosys starts once, whatever the number of modules.
"""

import gc
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Elaboratable, Instance, ResetSignal, Value
from amaranth.lib import wiring

from gen.amaranth_private import directed, mark_used
from gen.sram import SRAM, SRAM_FORMS, sram_module
from gen.verilog import to_verilog
from hdl.lib.leaf import using

__all__ = ["Library", "ModuleText", "component_ports"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Reserved in Verilog or SystemVerilog: a port of such a name would become an escaped identifier.
_RESERVED = frozenset("""
    alias always and assert assign assume automatic before begin bind bins bit break buf byte case
    cell chandle class clocking config const constraint context continue cover cross deassign
    default defparam design disable dist do edge else end endcase enum event expect export extends
    extern final first_match for force foreach forever fork function generate genvar global if iff
    ignore_bins import include initial inout input inside instance int integer interface intersect
    join large liblist library local localparam logic longint macromodule matches medium modport
    module nand negedge new nor not null or output package packed parameter posedge primitive
    priority program property protected pull0 pull1 pure rand randc real ref reg release repeat
    return scalared sequence shortint signed small solve specify static string strong struct super
    supply0 supply1 table tagged task this throughout time timeprecision timeunit tri type typedef
    union unique unsigned use var vectored virtual void wait wand weak while wildcard wire with
    within wor xnor xor
""".split())
_MODULE = re.compile(r"^module \\(\S+)$", re.MULTILINE)
_CELL = re.compile(r"^  cell \\(\S+) ", re.MULTILINE)
_ZERO_MEMORY = re.compile(r"^  cell \$meminit_v2 .*\n(?:    .*\n)*?"
                          r"    connect \\DATA \d+'0*\n(?:    .*\n)*?  end\n\n?", re.MULTILINE)
# Fields of records, x.y and x[0], which Amaranth names beside the signals that hold them.
_FIELD = re.compile(r"^(?:  attribute .*\n)*  wire (?:.* )?\\\S+[.[].*\n"
                    r"|^connect \\\S+[.[]\S* .*\n", re.MULTILINE)
_PORT = re.compile(r"^  wire .*\b(?:in|out)put \d+ .*\\(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class ModuleText:
    """A converted component: its module and the modules of its private submodules.

    ``rtlil``: text of all of them, without ``top`` attributes. ``cells``: for each module in the
    text, how often it instantiates every other module (black boxes too). ``ports``: names of all
    ports of the component's module, ``clk`` and ``rst`` included where it is clocked.
    """

    name: str
    rtlil: str = field(repr=False)
    cells: dict[str, Counter[str]]
    ports: frozenset[str]
    signature: wiring.Signature = field(repr=False)


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
            ports[name + "_" if name in _RESERVED else name] = (signal, member.flow)
    return ports


class Library:
    """Implements ``hdl.lib.leaf.LeafLibrary``; every module's name starts with ``prefix``.

    A reference connects every port of the component by name, and the clock and the reset of
    domain ``sync`` where the module has them. ``DomainRenamer`` reaches these; ``ResetInserter``
    and ``EnableInserter`` around the parent do not reach into a shared leaf, as they do not reach
    into any ``Instance``: a leaf takes such controls as ports.

    ``sram``, one of ``gen.sram.SRAM_FORMS``, says how the text defines the memories.

    Raises ``ValueError`` where a name is not a legal identifier, or is used for two components
    with different ports, or where two modules would get the same name.
    """

    def __init__(self, prefix: str = "", sram: str = "infer") -> None:
        if prefix and not _IDENTIFIER.match(prefix):
            raise ValueError(f"prefix must be a legal Verilog identifier, not {prefix!r}")
        if sram not in SRAM_FORMS:
            raise ValueError(f"sram must be one of {', '.join(SRAM_FORMS)}, not {sram!r}")
        self.prefix = prefix
        self.sram = sram
        self._modules: dict[str, ModuleText] = {}
        self._macros: dict[str, str] = {}

    @property
    def modules(self) -> dict[str, ModuleText]:
        """Every converted component by the name of its module, leaves before their parents."""
        return dict(self._modules)

    @property
    def rtlil(self) -> str:
        """Text of all modules but the macros."""
        return "".join(module.rtlil for module in self._modules.values())

    @property
    def macro_text(self) -> str:
        """Verilog-2005 text of the macros."""
        return "".join(self._macros.values())

    def verilog(self) -> str:
        """Verilog-2005 text of all modules, the macros last."""
        return to_verilog(self.rtlil) + self.macro_text

    def macro(self, name: str) -> str:
        """The prefixed name of macro ``name``, whose text becomes part of the library's."""
        if name != SRAM:
            raise ValueError(f"macro must be {SRAM}, not {name!r}")
        full = self.prefix + name
        self._macros[full] = sram_module(full, self.sram)
        return full

    def reference(self, component: wiring.Component) -> Elaboratable:
        """An ``Instance`` of ``component``'s module, which is converted when met first."""
        name = self.prefix + component.leaf_name
        module = self._modules.get(name)
        if module is None:
            module = self.add(component, name)
        else:
            mark_used(component)  # its hardware is in the library: it did its work
            if module.signature != component.signature:
                raise ValueError(f"leaf {name!r} names two components with different ports")
        ports = {
            f"{'i' if flow == wiring.In else 'o'}_{port}": signal
            for port, (signal, flow) in component_ports(component).items()}
        if "clk" in module.ports:
            ports["i_clk"] = ClockSignal()
        if "rst" in module.ports:
            ports["i_rst"] = ResetSignal(allow_reset_less=True)
        return Instance(name, **ports)

    def add(self, component: wiring.Component, name: str) -> ModuleText:
        """Convert ``component`` to module ``name``, and the leaves inside it to theirs."""
        mark_used(component)  # refused or converted, it needs no other user
        if not _IDENTIFIER.match(name) or name in _RESERVED:
            raise ValueError(f"module name must be a legal Verilog identifier, not {name!r}")
        ports = directed(component_ports(component))
        with using(self), _no_collection():
            text = rtlil.convert(component, name=name, ports=ports, emit_src=False)
        module = _module_text(name, text, component.signature)
        taken = {*self._macros, *(other for known in self._modules.values()
                                  for other in known.cells)}
        for other in module.cells:
            if other in taken:
                raise ValueError(f"two modules are called {other!r}")
        self._modules[name] = module
        return module

    def counts(self, top: str) -> Counter[str]:
        """How many instances of each module one ``top`` holds, itself included, at any depth.

        Modules that are instantiated but not in the library (black boxes) are counted as well.
        """
        cells = {name: inside for module in self._modules.values()
                 for name, inside in module.cells.items()}
        known: dict[str, Counter[str]] = {}

        def total(name: str) -> Counter[str]:
            if name not in known:
                found = Counter({name: 1})
                for child, times in cells.get(name, {}).items():
                    for inner, count in total(child).items():
                        found[inner] += times * count
                known[name] = found
            return known[name]

        if top not in cells:
            raise ValueError(f"module must be one of {', '.join(cells)}, not {top!r}")
        return Counter(total(top))


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


def _module_text(name: str, text: str, signature: wiring.Signature) -> ModuleText:
    """Split ``text`` into its modules and read off what each instantiates."""
    # Submodules are called "parent.child": legal in RTLIL, an escaped identifier in Verilog.
    text = re.sub(r"^(module |  cell )\\(\S+)",
                  lambda match: match[1] + "\\" + match[2].replace(".", "__"),
                  text, flags=re.MULTILINE)
    text = text.replace("attribute \\top 1\n", "")
    # Nothing reads them, and they would be a fifth of the text.
    text = _FIELD.sub("", text)
    # A line for every zero word would outgrow the rest, and an ASIC's memories start unknown.
    text = _ZERO_MEMORY.sub("", text)
    starts = [match.start() for match in _MODULE.finditer(text)] + [len(text)]
    cells: dict = {}
    ports: frozenset = frozenset()
    for start, end in pairwise(starts):
        body = text[start:end]
        begun = _MODULE.match(body)
        assert begun is not None, "every part of the text is a module"
        found = begun[1]
        if found in cells:
            raise ValueError(f"two modules are called {found!r}")
        cells[found] = Counter(_CELL.findall(body))
        if found == name:
            ports = frozenset(_PORT.findall(body))
    return ModuleText(name, text, cells, ports, signature)
