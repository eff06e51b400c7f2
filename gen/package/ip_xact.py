"""A build as an IP-XACT component (IEEE 1685-2014): buses, ports, registers, files."""

from collections.abc import Iterable
from xml.etree import ElementTree

from gen import __version__
from gen.cli import describe, describe_surroundings
from gen.design import Design, Port
from gen.identification import identification
from gen.systemrdl import register_fields
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS, Register, RegisterField

__all__ = ["NAMESPACE", "component"]

NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_CONTROL_BYTES = 4096
# Bus definitions as their owner publishes them, and those of the standard's own for the rest.
_BUSES = {"s_axi_ctrl": ("amba.com", "AMBA4", "AXI4-Lite", "r0p0_0"),
          "m_axi_gmem": ("amba.com", "AMBA4", "AXI4", "r0p0_0")}
_LINES = {"clock": ("spirit", "busdef.clock", "clock", "1.0", "CLK"),
          "reset": ("spirit", "busdef.reset", "reset", "1.0", "RESETn"),
          "interrupt": ("spirit", "busdef.interrupt", "interrupt", "1.0", "IRQ")}
_ACCESS = {"ro": "read-only", "rw": "read-write", "w1s": "write-only", "w1c": "read-write"}
_WRITES = {"w1s": "oneToSet", "w1c": "oneToClear"}

ElementTree.register_namespace("ipxact", NAMESPACE)


class _Element:
    """An element under construction: children by name, in the order in which they are added."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element

    def add(self, tag: str, text: object = None, /, **attributes: str) -> "_Element":
        child = ElementTree.SubElement(self.element, f"{{{NAMESPACE}}}{tag}", attributes)
        child.text = None if text is None else str(text)
        return _Element(child)


def component(design: Design, config: AcceleratorConfig, files: Iterable[tuple[str, str]]) -> str:
    """The component of ``design`` as XML; ``files``: name and IP-XACT's file type of each."""
    root = _Element(ElementTree.Element(f"{{{NAMESPACE}}}component"))
    for name, text in (("vendor", "ottava"), ("library", "accelerator"), ("name", design.top),
                       ("version", __version__)):
        root.add(name, text)
    ports = design.modules[design.top].ports
    _interfaces(root.add("busInterfaces"), ports)
    space = root.add("addressSpaces").add("addressSpace")
    space.add("name", "gmem")
    space.add("range", f"'h1{'0' * (_width(ports, 'm_axi_gmem_araddr') // 4)}")
    space.add("width", 8 * config.bus_bytes)
    _registers(root.add("memoryMaps").add("memoryMap"), config)
    _model(root.add("model"), design.top, ports)
    file_set = root.add("fileSets").add("fileSet")
    file_set.add("name", "files")
    for name, kind in files:
        entry = file_set.add("file")
        entry.add("name", name)
        entry.add("fileType", kind)
    told = [describe(config), *describe_surroundings(design.surroundings)]
    root.add("description", f"Ottava accelerator, {' '.join(told)}")
    parameters = root.add("parameters")
    around = design.surroundings.on(config.bus_bytes)
    for key, value in (config.as_dict() | around.as_dict()).items():
        parameter = parameters.add("parameter", parameterId=key, type="string")
        parameter.add("name", key)
        parameter.add("value", value)
    ElementTree.indent(root.element)
    return ElementTree.tostring(root.element, "unicode", xml_declaration=True) + "\n"


def _width(ports: Iterable[Port], name: str) -> int:
    (found,) = (port.width for port in ports if port.name == name)
    return found


def _interfaces(parent: _Element, ports: Iterable[Port]) -> None:
    for bus, (vendor, library, name, version) in _BUSES.items():
        interface, maps = _interface(parent, bus, vendor, library, name, version)
        for port in ports:
            if port.bus == bus:
                _map(maps, port.role.upper(), port)
        if bus.startswith("s_"):
            interface.add("slave").add("memoryMapRef", memoryMapRef="ctrl")
        else:
            interface.add("master").add("addressSpaceRef", addressSpaceRef="gmem")
    for port in ports:
        if port.role in _LINES:
            vendor, library, name, version, logical = _LINES[port.role]
            interface, maps = _interface(parent, port.name, vendor, library, name, version)
            _map(maps, logical, port)
            interface.add("master" if port.direction == "output" else "slave")


def _interface(parent: _Element, label: str, vendor: str, library: str, name: str, version: str
               ) -> tuple[_Element, _Element]:
    """The interface, and where its ports are mapped."""
    interface = parent.add("busInterface")
    interface.add("name", label)
    interface.add("busType", vendor=vendor, library=library, name=name, version=version)
    abstraction = interface.add("abstractionTypes").add("abstractionType")
    abstraction.add("abstractionRef", vendor=vendor, library=library, name=f"{name}_rtl",
                    version=version)
    return interface, abstraction.add("portMaps")


def _map(maps: _Element, logical: str, port: Port) -> None:
    entry = maps.add("portMap")
    entry.add("logicalPort").add("name", logical)
    entry.add("physicalPort").add("name", port.name)


def _registers(memory_map: _Element, config: AcceleratorConfig) -> None:
    memory_map.add("name", "ctrl")
    block = memory_map.add("addressBlock")
    block.add("name", "registers")
    block.add("baseAddress", "'h0")
    block.add("range", f"'h{_CONTROL_BYTES:X}")
    block.add("width", 32)
    known = identification(config)
    for register in REGISTERS:
        entry = block.add("register")
        entry.add("name", register.name)
        entry.add("description", register.doc)
        entry.add("addressOffset", f"'h{register.offset:X}")
        entry.add("size", 32)
        for field in register_fields(register):
            _field(entry.add("field"), register, field, known)


def _field(entry: _Element, register: Register, field: RegisterField,
           known: dict[tuple[str, str], int]) -> None:
    entry.add("name", field.name)
    entry.add("description", field.doc)
    entry.add("bitOffset", field.low)
    value = known.get((register.name, field.name), None if field.access == "ro" else 0)
    if value is not None:
        entry.add("resets").add("reset").add("value", f"'h{value:X}")
    entry.add("bitWidth", field.bits)
    entry.add("access", _ACCESS[field.access])
    if field.access in _WRITES:
        entry.add("modifiedWriteValue", _WRITES[field.access])


def _model(model: _Element, top: str, ports: Iterable[Port]) -> None:
    view = model.add("views").add("view")
    view.add("name", "verilog")
    view.add("envIdentifier", "::")
    view.add("componentInstantiationRef", "verilog")
    instantiation = model.add("instantiations").add("componentInstantiation")
    instantiation.add("name", "verilog")
    instantiation.add("language", "verilog")
    instantiation.add("moduleName", top)
    instantiation.add("fileSetRef").add("localName", "files")
    listed = model.add("ports")
    for port in ports:
        entry = listed.add("port")
        entry.add("name", port.name)
        wire = entry.add("wire")
        wire.add("direction", {"input": "in", "output": "out"}[port.direction])
        if port.width > 1:
            vector = wire.add("vectors").add("vector")
            vector.add("left", port.width - 1)
            vector.add("right", 0)
