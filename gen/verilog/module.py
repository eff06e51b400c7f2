"""One module of RTLIL as Verilog-2005.

A register is assigned where it is clocked, by the statements that RTLIL keeps in a process of
their own; what else is combinational is an ``assign``, but for choices between many ways, which
are a block with a ``case``. A wire without a name of its own gives way to the expression that
drives it where it is read in one place.
"""

import textwrap
from collections.abc import Iterable, Mapping

from gen.verilog.expressions import Expressions, constant
from gen.verilog.memories import Memories
from gen.verilog.names import Identifiers
from gen.verilog.rtlil import Assign, Body, Cell, Module, Process, Wire
from gen.verilog.statements import WIDEST, Statements
from gen.verilog.survey import COMBINATIONAL, FLIP_FLOPS, INIT, READ, WRITE, Survey

__all__ = ["WAKE_UP", "ModuleWriter"]

_WAKE = "wake"
# A block of combinational logic that waits for a change of what it reads would wait for ever where
# that is constant from the start; by this statement it reads a register too, whose first value is
# such a change.
WAKE_UP = f"if ({_WAKE}) begin end"


class ModuleWriter:
    """Writes ``module``.

    ``ports`` maps the name in RTLIL of every module that it may instantiate to that module's
    ``names``; a module that is not there has plain names. ``ValueError`` where the module holds a
    cell that this writer does not know.

    ``initial``: registers have values at power-up, and blocks of combinational logic run once then.

    ``names``: identifiers of wires, cells and memories. ``aliases``: wires without a name of their
    own that have the name of another, to which they are connected. ``definitions``: what ``text``
    assigns to wires without a name of their own.
    """

    def __init__(self, module: Module, ports: Mapping[str, Mapping[str, str]],
                 initial: bool = True) -> None:
        self.module = module
        self._initial = initial
        self._pieces = module.pieces
        self._ports = ports
        others = [*(cell.name for cell in module.cells), *module.memories]
        self.names = Identifiers([*module.wires.values(), *(Wire(name, 0) for name in others)],
                                 (_WAKE,))
        self._survey = Survey(module)
        self.aliases = self._survey.aliases
        for wire, name in self.aliases.items():
            self.names[wire] = self.names[name]
        self._expressions = Expressions(module, self.names, self._survey)
        self._statements = Statements(module, self.names, self._expressions)
        self._memories = Memories(module, self.names, self._expressions)
        self._registers: dict[str, str] = {}
        self._blocks: set[str] = set()
        self._clocked: dict[str, list[str]] = {}
        self._resets: dict[str, tuple[str, list[str]]] = {}
        self.definitions: dict[str, str] = {}

    def text(self) -> str:
        """The module, ``module`` to ``endmodule``."""
        driven: list[tuple[str, list[str]]] = []
        chosen: list[tuple[str, list[str]]] = []
        connected: list[tuple[str, list[str]]] = []
        instances: list[str] = []
        aliases = set(self.aliases.values())
        for item in self._survey.items:
            if isinstance(item, Process):
                chosen.append(self._process(item))
            elif item.kind in COMBINATIONAL:
                driven.append(self._assign(item.ports["\\Y"], self._expressions.cell(item).text))
            elif item.kind in FLIP_FLOPS:
                self._register(item)
            elif item.kind == WRITE:
                self._at(item).extend(self._memories.write(item))
            elif item.kind == READ:
                driven.extend(self._read_port(item))
            elif item.kind != INIT:
                instances += self._instance(item)
        for target, value in self.module.connections:
            if self._pieces(target) and target not in aliases:
                connected.append(self._assign(target, self._expressions.connection(target, value)))
        # The fields of a structure stand for its parts where these are read, and nowhere else.
        for name, piece in self._expressions.fields.items():
            connected.append((name, [f"  assign {self.names[name]} = "
                                     f"{self._expressions.slice(piece)};"]))
        # Outputs before what drives them: ABC's heuristics follow the order of the text, and map
        # the leaves of this design to fewer gates so, the encoder to two thirds.
        lines = [line for wire, block in (*connected, *chosen, *driven)
                 if wire not in self._expressions.inlined for line in block]
        for edge, block in self._clocked.items():
            if edge in self._resets:
                reset, values = self._resets[edge]
                block = [f"    if ({reset}) begin", *values, "    end else begin",
                         *(f"  {line}" for line in block), "    end"]
            lines += [f"  always @({edge}) begin", *block, "  end"]
        return "\n".join([*self._header(), *self._declarations(), *map(_wrapped, lines),
                          *instances, "endmodule"]) + "\n"

    def _assign(self, target: str, value: str) -> tuple[str, list[str]]:
        wire = self._pieces(target)[0].wire
        if wire[0] == "$" and wire not in self.aliases:
            self.definitions[self.names[wire]] = value
        return wire, [f"  assign {self.names[wire]} = {value};"]

    def _process(self, process: Process) -> tuple[str, list[str]]:
        target = process.default.target
        wire = self._pieces(target)[0].wire
        if wire in self._survey.absorbed:
            return wire, []
        value = self._statements.choice(process) if process.choices else \
            self._statements.straight(process)
        if value is not None:
            return self._assign(target, value)
        self._blocks.add(self.names[wire])
        body: Body = [process.default, *process.body]
        return wire, ["  always @* begin", *([f"    {WAKE_UP}"] if self._initial else []),
                      *self._statements.block(body, "=", "    "), "  end"]

    def _at(self, cell: Cell) -> list[str]:
        """The statements at the clock of ``cell``."""
        edge = "posedge" if cell.parameters["\\CLK_POLARITY"] == "1" else "negedge"
        clock = self._expressions.signal(cell.ports["\\CLK"]).text
        edge += f" {clock}"
        if cell.kind == "$adff":
            reset = self._expressions.signal(cell.ports["\\ARST"]).text
            edge += f" or posedge {reset}"
            self._resets.setdefault(edge, (reset, []))[1].append(self._after_reset(cell))
        return self._clocked.setdefault(edge, [])

    def _after_reset(self, cell: Cell) -> str:
        """What a reset without a clock makes of a register."""
        name = self.names[self._pieces(cell.ports["\\Q"])[0].wire]
        value = _parameter(cell.parameters["\\ARST_VALUE"])
        return f"      {name} <= {value};"

    def _register(self, cell: Cell) -> None:
        held, data = self._pieces(cell.ports["\\Q"]), self._pieces(cell.ports["\\D"])
        wire = held[0].wire
        self._registers[self.names[wire]] = self.module.wires[wire].init
        body: Body = [Assign(cell.ports["\\Q"], cell.ports["\\D"])]
        if data[0].wire in self._survey.absorbed:
            process = self._survey.processes[data[0].wire]
            # A register holds what nothing else is assigned to.
            body = process.body if self._pieces(process.default.value) == held else \
                [process.default, *process.body]
        self._at(cell).extend(self._statements.block(body, "<=", "    ", self.names[wire]))

    def _read_port(self, cell: Cell) -> list[tuple[str, list[str]]]:
        if cell.parameters["\\CLK_ENABLE"] == "0":
            return [self._assign(cell.ports["\\DATA"], self._memories.wire(cell))]
        self._registers[self.names[self._pieces(cell.ports["\\DATA"])[0].wire]] = ""
        self._at(cell).extend(self._memories.read(cell))
        return []

    def _instance(self, cell: Cell) -> list[str]:
        ports = self._ports.get(cell.kind, {})
        pins = [_wrapped(f"    .{ports.get(port, port[1:])}"
                         f"({self._expressions.signal(signal).text})")
                for port, signal in cell.ports.items() if self._pieces(signal)]
        values = [f"    .{name[1:]}({_parameter(value)})"
                  for name, value in cell.parameters.items()]
        sizes = "#(\n" + ",\n".join(values) + "\n  ) " if values else ""
        return [f"  {cell.kind[1:]} {sizes}{self.names[cell.name]} (", ",\n".join(pins), "  );"]

    def _kind(self, wire: Wire) -> str:
        name = self.names[wire.name]
        return "reg" if name in self._registers or name in self._blocks else "wire"

    def _declared(self, wire: Wire) -> str:
        """The name of ``wire``, and its value at first where it is a register that has one."""
        name = self.names[wire.name]
        bits = self._registers.get(name, "") if self._initial else ""
        return f"{name} = {constant(bits)}" if bits and "x" not in bits else name

    def _header(self) -> list[str]:
        ports = [f"  {wire.direction} {'reg ' if self._kind(wire) == 'reg' else ''}"
                 f"{_range(wire.width)}{self._declared(wire)}"
                 for wire in self.module.ports if wire.width]
        return [f"module {self.module.name[1:]}(", ",\n".join(ports), ");"]

    def _declarations(self) -> list[str]:
        """The registers, then the wires, the widest first."""
        absent = {*self._expressions.inlined, *self._survey.absorbed, *self.aliases}
        groups: dict[tuple[str, int], list[str]] = {}
        for wire in self.module.wires.values():
            width = self._survey.widths[wire.name]
            if width and not wire.direction and wire.name not in absent:
                groups.setdefault((self._kind(wire), -width), []).append(self._declared(wire))
        for name, piece in self._expressions.fields.items():
            groups.setdefault(("wire", -piece.width), []).append(self.names[name])
        # As an initialiser it would be no change in SystemVerilog, which sets it before any block
        # starts.
        wakes = self._blocks and self._initial
        lines = [f"  reg {_WAKE};", f"  initial {_WAKE} = 1'h0;"] if wakes else []
        lines += self._memories.declarations()
        for kind, width in sorted(groups):
            lines += _filled(f"  {kind} {_range(-width)}", groups[kind, width])
        return lines


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


def _parameter(value: str) -> str:
    """A parameter of an instance: a number, bits or a string."""
    return constant(value.partition("'")[2]) if value[0] != '"' and "'" in value else value


def _filled(head: str, names: Iterable[str]) -> list[str]:
    """Declarations of ``names``, as many per line as fit."""
    lines, line = [], ""
    for name in names:
        if line and len(line) + len(name) + 3 > WIDEST:
            lines.append(line + ",")
            line = "    " + name
        else:
            line = f"{line}, {name}" if line else head + name
    return [*lines, line + ";"]


def _wrapped(line: str) -> str:
    """``line`` in lines with room for a comma in ``WIDEST`` columns where it has spaces."""
    if len(line) < WIDEST:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return "\n".join(textwrap.wrap(line, WIDEST - 1, subsequent_indent=indent,
                                   break_long_words=False, break_on_hyphens=False))
