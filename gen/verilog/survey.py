"""What a module of RTLIL reads and drives, before a line of it is written."""

from collections import Counter

from gen.verilog.rtlil import Assign, Body, Cell, Module, Process

__all__ = ["COMBINATIONAL", "FLIP_FLOPS", "INIT", "READ", "WRITE", "Survey"]

COMBINATIONAL = frozenset((
    "$not", "$neg", "$reduce_and", "$reduce_or", "$reduce_xor", "$reduce_bool", "$add", "$sub",
    "$mul", "$and", "$or", "$xor", "$shl", "$shr", "$sshr", "$shift", "$eq", "$ne", "$lt", "$le",
    "$gt", "$ge", "$mux"))
FLIP_FLOPS = frozenset(("$dff", "$adff"))
INIT, WRITE, READ = "$meminit_v2", "$memwr_v2", "$memrd_v2"
# Of these, the low bits of the result need nothing but the low bits of the operands ``_SIDES``.
_FROM_BELOW = frozenset(("$add", "$sub", "$mul", "$and", "$or", "$xor", "$not", "$neg", "$shl",
                         "$mux"))
_SIDES = {"$shl": ("\\A",), "$not": ("\\A",), "$neg": ("\\A",)}  # of others A and B
_OUTPUTS = {**dict.fromkeys(COMBINATIONAL, "\\Y"), **dict.fromkeys(FLIP_FLOPS, "\\Q"),
            READ: "\\DATA", WRITE: "", INIT: ""}


class Survey:
    """Of one module; ``ValueError`` where it holds a cell that the writer does not know.

    Attributes
    ----------
    items: the module's, without those that drive a signal of no bits.
    uses: by wire, in how many places it is read.
    widths: by wire, its bits; of one without a name, without the highest that are not read and
        that its operands do not have, a carry say, if the rest does not change.
    drivers: by wire, the combinational cell that drives it. processes: by wire, the process.
    aliases: by wire without a name, the first one with a name that is connected to all of it.
    absorbed: wires that only hold the next value of a register, whose process assigns the
        register instead.
    """

    def __init__(self, module: Module) -> None:
        self._pieces = module.pieces
        self.items: list[Cell | Process] = []
        self.uses: Counter[str] = Counter()
        self.widths = {name: wire.width for name, wire in module.wires.items()}
        self._reach: Counter[str] = Counter()
        self.drivers: dict[str, Cell] = {}
        self.processes: dict[str, Process] = {}
        for item in module.items:
            if isinstance(item, Process):
                self._process(item)
            elif item.kind.startswith("\\"):
                self.items.append(item)
                self._read(*item.ports.values())
            elif item.kind in _OUTPUTS:
                self._cell(item, _OUTPUTS[item.kind])
            else:
                raise ValueError(f"cell must be one that the writer knows, not {item.kind} "
                                 f"in module {module.name[1:]}")
        self._read(*(value for _, value in module.connections))
        for wire, cell in self.drivers.items():
            if wire[0] == "$" and cell.kind in _FROM_BELOW and \
                    0 < self._reach[wire] < self.widths[wire]:
                self.widths[wire] = min(self.widths[wire],
                                        max(self._reach[wire], self._widest(cell)))
        self.aliases: dict[str, str] = {}
        for target, value in module.connections:
            pieces = self._pieces(value)
            if len(pieces) == 1 and pieces[0].wire[:1] == "$" and \
                    pieces[0].width == self.widths[pieces[0].wire]:
                self.aliases.setdefault(pieces[0].wire, target)
        self.absorbed = {wire for item in self.items if isinstance(item, Cell)
                         and item.kind in FLIP_FLOPS and (wire := self._next(item))}

    def _widest(self, cell: Cell) -> int:
        """Bits of the wider operand of ``cell``."""
        return max(sum(piece.width for piece in self._pieces(cell.ports[side]))
                   for side in _SIDES.get(cell.kind, ("\\A", "\\B")))

    def _read(self, *signals: str) -> None:
        for signal in signals:
            for wire, low, width, _ in self._pieces(signal):
                self.uses[wire] += 1
                if low + width > self._reach[wire]:
                    self._reach[wire] = low + width

    def _cell(self, cell: Cell, output: str) -> None:
        driven = self._pieces(cell.ports[output]) if output else ()
        if output and not driven:
            return
        self.items.append(cell)
        if output == "\\Y":
            self.drivers[driven[0].wire] = cell
        # The text of a memory may name a signal more than once.
        for _ in range(2 if cell.kind in (READ, WRITE) else 1):
            self._read(*(signal for port, signal in cell.ports.items() if port != output))

    def _process(self, process: Process) -> None:
        driven = self._pieces(process.default.target)
        if driven:
            self.items.append(process)
            self.processes[driven[0].wire] = process
            self._body([process.default, *process.body])

    def _body(self, body: Body) -> None:
        for item in body:
            if isinstance(item, Assign):
                self._read(item.value)
            else:
                self._read(item.selector)
                for _, case in item.cases:
                    self._body(case)

    def _next(self, cell: Cell) -> str:
        """The wire that only holds the next value of register ``cell``, or nothing."""
        data = self._pieces(cell.ports["\\D"])
        wire = data[0].wire
        whole = len(data) == 1 and wire[:1] == "$" and data[0].width == self.widths[wire]
        return wire if whole and self.uses[wire] == 1 and wire in self.processes else ""
