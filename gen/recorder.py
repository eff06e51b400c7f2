"""From the RTLIL of a library to the record of its text (``gen.design``)."""

from collections import Counter
from collections.abc import Iterator, Mapping

from amaranth.lib import wiring

from gen.design import Design, Leaf, Memory, Module, Port
from gen.flat import Flat
from gen.identity import class_name, latency_of, parameters, plain
from gen.leaves import Converted, Library, component_ports
from gen.sram import PORTS, sram_module
from gen.synchroniser import PORTS as SYNCHRONISER_PORTS
from gen.synchroniser import SYNCHRONISER
from gen.verilog import ModuleWriter, rtlil
from gen.verilog.survey import READ, WRITE
from hdl.spec.config import AcceleratorConfig

__all__ = ["record"]

_CONTROLS = {"clk": "clock", "aclk": "clock", "rst": "reset", "aresetn": "reset",
             "clken": "enable", "aclken": "enable", "interrupt": "interrupt"}


def record(library: Library, top: str, header: str = "", config: AcceleratorConfig | None = None
           ) -> Design:
    """The text of ``library`` below ``header``, and all that it holds, the macros last."""
    leaves = {converted.modules[0].name: converted for converted in library.modules.values()}
    modules = [_module(writer, leaves.get(writer.module.name), library.macros)
               for writer in library.writers()]
    modules += [_macro(name, text) for name, text in library.macros.items()]
    return Design(top, {module.name: module for module in modules}, header, config,
                  library.surroundings)


def _module(writer: ModuleWriter, converted: Converted | None, macros: Mapping[str, str]) -> Module:
    module = writer.module
    text = writer.text()
    cells = Counter(cell.kind[1:] for cell in module.cells)
    component = converted.component if converted else None
    made = component.component if isinstance(component, Flat) else component
    memories = (*_arrays(writer), *_instances(writer, macros))
    return Module(
        module.name[1:], text, tuple(_ports(writer, converted)), cells, memories,
        None if converted is None else Leaf(
            class_name(made), {name.lstrip("_"): plain(value)
                               for name, value in parameters(made).items()},
            latency_of(made), converted.digest),
        is_memory=bool(memories) and set(cells) <= set(macros) and len(memories) == cells.total(),
        definitions=writer.definitions)


def _ports(writer: ModuleWriter, converted: Converted | None) -> Iterator[Port]:
    known = {} if converted is None else _signature(converted.component)
    for wire in writer.module.ports:
        if wire.width:
            name = writer.names[wire.name]
            signed, bus, role = known.get(name) or (wire.signed, "", _role(name))
            yield Port(name, wire.direction, wire.width, signed, bus, role)


def _role(name: str) -> str:
    """Of a port that is no member of an interface. Amaranth calls the clock of domain ``core``,
    where that crosses private submodules, ``core_clk``."""
    return _CONTROLS.get(name) or _CONTROLS.get(name.rpartition("_")[2], "data")


def _signature(component: wiring.Component) -> dict[str, tuple[bool, str, str]]:
    """Sign, bus and role of every flat port of ``component``."""
    paths = {"__".join(map(str, path)): path
             for path, _, _ in component.signature.flatten(component)}
    found = {}
    for name, (signal, _) in component_ports(component).items():
        path = [str(part) for part in paths.get(name) or paths[name.rstrip("_")]]
        bus, role = "__".join(path[:-1]), path[-1]
        if not bus and "_axi_" in role:  # the accelerator's own, whose names are flat
            bus, _, role = role.rpartition("_")
            if role in _CONTROLS:
                bus = ""
        found[name] = signal.shape().signed, bus, role if bus else _role(name)
    return found


def _arrays(writer: ModuleWriter) -> Iterator[Memory]:
    """Memories that the module declares itself."""
    for name, memory in writer.module.memories.items():
        ports = [item for item in writer.module.items if isinstance(item, rtlil.Cell)
                 and item.parameters.get("\\MEMID", "").strip('"').replace("\\\\", "\\") == name]
        counts = Counter(item.kind for item in ports)
        granules = {len(set(writer.module.pieces(item.ports["\\EN"])))
                    for item in ports if item.kind == WRITE}
        yield Memory(writer.names[name], memory.width, memory.depth,
                     memory.width // max(granules, default=1), counts[WRITE], counts[READ])


def _instances(writer: ModuleWriter, macros: Mapping[str, str]) -> Iterator[Memory]:
    """Memories that are instances of a macro in the module."""
    for cell in writer.module.cells:
        if cell.kind[1:] in macros and "\\DEPTH" in cell.parameters:
            width, depth, granularity = (int(cell.parameters[f"\\{name}"])
                                         for name in ("WIDTH", "DEPTH", "GRANULARITY"))
            yield Memory(writer.names[cell.name], width, depth, granularity, macro=cell.kind[1:])


def _macro(name: str, text: str) -> Module:
    """A macro, its ports as wide as its parameters' defaults make them."""
    if name.endswith(SYNCHRONISER):
        ports = tuple(Port(port, direction, width, role=_role(port))
                      for port, direction, width in SYNCHRONISER_PORTS)
        return Module(name, text, ports, macro=True)
    ports = tuple(Port(port, direction, width, role=_role(port))
                  for port, direction, width in PORTS)
    return Module(name, text, ports, macro=True, is_memory=True,
                  box=sram_module(name, "blackbox"))
