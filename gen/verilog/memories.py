"""Memories of RTLIL, ``$meminit_v2``, ``$memwr_v2`` and ``$memrd_v2``, as arrays of Verilog."""

from gen.verilog.expressions import Expressions, constant
from gen.verilog.rtlil import Cell, Module, bit_by_bit, joined
from gen.verilog.survey import INIT, WRITE

__all__ = ["Memories"]

_WIDTH = "\\WIDTH"


class Memories:
    """Those of one module."""

    def __init__(self, module: Module, names: dict[str, str], expressions: Expressions) -> None:
        self._module = module
        self._names = names
        self._expressions = expressions
        self._writes: dict[tuple[str, int], Cell] = {}
        for item in module.items:
            if isinstance(item, Cell) and item.kind == WRITE:
                port = int(item.parameters["\\PORTID"])
                self._writes[item.parameters["\\MEMID"], port] = item

    def declarations(self) -> list[str]:
        """A line for each memory, and what it holds at first where that is not zero.

        A line for every zero word would outgrow the rest, and an ASIC's memories start unknown.
        """
        lines = [f"  reg [{memory.width - 1}:0] {self._names[name]} [{memory.depth - 1}:0];"
                 for name, memory in self._module.memories.items()]
        for item in self._module.items:
            if isinstance(item, Cell) and item.kind == INIT:
                lines += self._initial(item)
        return lines

    def _initial(self, cell: Cell) -> list[str]:
        bits = "".join(piece.bits for piece in self._module.pieces(cell.ports["\\DATA"]))
        if "1" not in bits:
            return []
        width, name = int(cell.parameters[_WIDTH]), self._name(cell)
        words = [bits[end - width:end] for end in range(len(bits), 0, -width)]
        return ["  initial begin", *(f"    {name}[{place}] = {constant(word)};"
                                     for place, word in enumerate(words)), "  end"]

    def write(self, cell: Cell) -> list[str]:
        """Statements of a write port, at its clock."""
        return [f"    {self._if(enable)}{self._name(cell)}[{self._text(cell, 'ADDR')}]"
                f"{self._range(low, high, int(cell.parameters[_WIDTH]))} <= {data};"
                for low, high, enable, data in self._granules(cell)]

    def read(self, cell: Cell) -> list[str]:
        """Statements of a read port with a register, at its clock: what it read, or what is being
        written to the same word, where the port is transparent for that."""
        target = self._names[self._module.pieces(cell.ports["\\DATA"])[0].wire]
        enable, address = self._text(cell, "EN"), self._text(cell, "ADDR")
        lines = [f"    {self._if(enable)}{target} <= {self._name(cell)}[{address}];"]
        mask = cell.parameters["\\TRANSPARENCY_MASK"].partition("'")[2][::-1]
        for port, bit in enumerate(mask):
            if bit == "1":
                write = self._writes[cell.parameters["\\MEMID"], port]
                same = f"({self._text(write, 'ADDR')} == {address})"
                for low, high, wanted, data in self._granules(write):
                    test = " & ".join(one for one in (enable, wanted, same) if one != "1'h1")
                    place = self._range(low, high, int(cell.parameters[_WIDTH]))
                    lines.append(f"    if ({test}) {target}{place} <= {data};")
        return lines

    def wire(self, cell: Cell) -> str:
        """What a read port without a register gives."""
        return f"{self._name(cell)}[{self._text(cell, 'ADDR')}]"

    def _name(self, cell: Cell) -> str:
        return self._names[cell.parameters["\\MEMID"].strip('"').replace("\\\\", "\\")]

    def _text(self, cell: Cell, port: str) -> str:
        return self._expressions.signal(cell.ports["\\" + port]).operand

    def _granules(self, cell: Cell) -> list[tuple[int, int, str, str]]:
        """Bits of a word that share an enable: lowest, highest, the enable, their data."""
        enables = bit_by_bit(self._module.pieces(cell.ports["\\EN"]))[::-1]
        data = bit_by_bit(self._module.pieces(cell.ports["\\DATA"]))[::-1]
        found, low = [], 0
        for high in range(len(enables)):
            if high + 1 == len(enables) or enables[high + 1] != enables[low]:
                text = self._expressions.of_pieces(joined(data[low:high + 1][::-1])).text
                found.append((low, high, self._expressions.of_pieces((enables[low],)).operand,
                              text))
                low = high + 1
        return found

    @staticmethod
    def _if(enable: str) -> str:
        return "" if enable == "1'h1" else f"if ({enable}) "

    @staticmethod
    def _range(low: int, high: int, width: int) -> str:
        return "" if high - low + 1 == width else f"[{high}:{low}]"
