"""Expressions of Verilog for the signals and the cells of RTLIL.

Verilog takes the width of an operand from its surroundings: ``a + b`` keeps its carry where it is
assigned to something wider and loses it inside ``{}``. An expression therefore remembers two
widths, that of the RTLIL and the one that Verilog gives it when nothing else does, and stands
inside another only where both lead to the same value. All operands are unsigned but for
``$signed(...)``, which no other operand of the same width is mixed with.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gen.verilog.names import Identifiers
from gen.verilog.rtlil import Cell, Module, Piece
from gen.verilog.survey import Survey

__all__ = ["Expression", "Expressions", "constant"]

_LONGEST = 64  # characters of an expression that stands inside another

_REDUCTIONS = {"$reduce_and": "&", "$reduce_or": "|", "$reduce_xor": "^", "$reduce_bool": "|"}
_UNARY = {"$not": "~", "$neg": "-"}
_BINARY = {"$add": "+", "$sub": "-", "$mul": "*", "$and": "&", "$or": "|", "$xor": "^",
           "$shl": "<<", "$shr": ">>", "$sshr": ">>>", "$shift": ">>",
           "$eq": "==", "$ne": "!=", "$lt": "<", "$le": "<=", "$gt": ">", "$ge": ">="}
_COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">="))
_SHIFTS = frozenset(("<<", ">>", ">>>"))



class Expression(NamedTuple):
    """``width``: bits of the value; ``own``: those that Verilog gives ``text`` on its own.

    ``top``: the operator that binds least, nothing where the text needs no parentheses anywhere.
    ``extends``: in wider surroundings the value is extended with zeros.
    """

    text: str
    width: int
    own: int
    top: str = ""
    extends: bool = True

    def fits(self, context: int, alone: bool) -> bool:
        """Whether it may stand where ``context`` bits are expected, 0 where nothing is; ``alone``:
        nothing else makes sure that it has them."""
        if alone and self.own != self.width:
            return False
        return self.own <= self.width and (
            context in (0, self.width) or (context > self.width and self.extends))

    @property
    def operand(self) -> str:
        """The text as an operand of something that binds tighter than any choice."""
        return f"({self.text})" if self.top and self.top != "~" else self.text

    @property
    def inner(self) -> str:
        """The text as the operand of a sign before it."""
        return f"({self.text})" if self.top else self.text

    @property
    def branch(self) -> str:
        """The text as a side of a choice."""
        return f"({self.text})" if self.top == "?" else self.text


def constant(bits: str) -> str:
    """A literal; the digits of ``x`` stay binary."""
    if "x" in bits or "z" in bits:
        return f"{len(bits)}'b{bits}"
    return f"{len(bits)}'h{int(bits, 2):x}"


class Expressions:
    """Those of one module.

    ``names``: identifiers of its wires. ``inlined`` collects the wires that have given way to
    their cell's expression: they need no declaration. ``fields`` collects those of structures that
    are read, which are wires of their own in the text.
    """

    def __init__(self, module: Module, names: Identifiers, survey: Survey) -> None:
        self._pieces = module.pieces
        self.widths = survey.widths
        self._names = names
        self._drivers = {name: cell for name, cell in survey.drivers.items()
                         if name[0] == "$" and survey.uses[name] == 1
                         and name not in survey.aliases}
        self._fields = module.fields
        self._parts = _connected(module, self.widths)
        self._cells: dict[str, Expression] = {}
        self._signals: dict[str, Expression] = {}
        self.inlined: set[str] = set()
        self.fields: dict[str, Piece] = {}

    def signal(self, signal: str, context: int = 0, alone: bool = False) -> Expression:
        """What ``signal`` is where ``context`` bits are expected, as in ``Expression.fits``."""
        known = self._signals.get(signal)
        if known is not None:
            return known
        pieces = self._pieces(signal)
        found = self.of_pieces(pieces, context, alone or not context)
        if not any(piece.wire in self._drivers for piece in pieces):
            self._signals[signal] = found
        return found

    def of_pieces(self, pieces: Sequence[Piece], context: int = 0, alone: bool = True
                  ) -> Expression:
        """The same of a signal in pieces; no piece at all is a zero."""
        if len(pieces) == 1:
            return self._piece(pieces[0], context, alone)
        if not pieces:
            return Expression("1'h0", 1, 1)
        words: list[str] = []
        width, place = 0, 0
        while place < len(pieces):
            piece, times = pieces[place], 1
            while place + times < len(pieces) and pieces[place + times] == piece:
                times += 1
            text = self._piece(piece, 0, True).text
            words.append(text if times == 1 else f"{{{times}{{{text}}}}}")
            width += times * piece.width
            place += times
        text = words[0] if len(words) == 1 else f"{{{', '.join(words)}}}"
        return Expression(text, width, width)

    def _piece(self, piece: Piece, context: int, alone: bool) -> Expression:
        name, _, width, bits = piece
        if not name:
            return Expression(constant(bits), width, width)
        if width == self.widths[name]:
            if name in self._drivers:
                found = self.cell(self._drivers[name])
                if found.fits(context, alone) and len(found.text) <= _LONGEST:
                    self.inlined.add(name)
                    return found
            return Expression(self._names[name], width, width)
        return Expression(self._part(piece) or self.slice(piece), width, width)

    def _part(self, piece: Piece) -> str:
        """The name that some bits of a wire have, if any: of a field of a structure, or of another
        wire that is connected to these bits of one without a name."""
        wire, low, width, _ = piece
        table = self._parts.get(wire)
        if table is None:
            table = self._parts[wire] = {}
            for path, start, size in sorted(self._fields.get(wire, tuple)(),
                                            key=lambda found: len(found[0])):
                table.setdefault((start, size), wire + path)
        name = table.get((low, width))
        if name is None:
            return ""
        if name not in self._names:
            self._names.add(name)
            self.fields[name] = piece
        return self._names[name]

    def slice(self, piece: Piece) -> str:
        """Some bits of a wire, but not all."""
        name, low, width, _ = piece
        return f"{self._names[name]}[{low}]" if width == 1 else \
            f"{self._names[name]}[{low + width - 1}:{low}]"

    def connection(self, target: str, value: str) -> str:
        """What drives ``target``, which is connected to ``value``."""
        pieces = self._pieces(value)
        if len(pieces) == 1 and self._parts.get(pieces[0].wire, {}).get(pieces[0][1:3]) == target:
            return self.slice(pieces[0])
        return self.signal(value, self.widths[target]).text

    def cell(self, cell: Cell) -> Expression:
        """What drives the output of ``cell``, which must be combinational."""
        known = self._cells.get(cell.name)
        if known is None:
            known = self._cells[cell.name] = self._make(cell)
        return known

    def _make(self, cell: Cell) -> Expression:
        ports, kind = cell.ports, cell.kind
        a, width = ports["\\A"], self.widths[self._pieces(ports["\\Y"])[0].wire]
        if kind == "$mux":
            return self._mux(ports["\\S"], ports["\\B"], a, width)
        signed = cell.parameters["\\A_SIGNED"] == "1"
        if kind in _REDUCTIONS:
            return self._reduction(_REDUCTIONS[kind], a)
        if kind in _UNARY:
            return self._unary(_UNARY[kind], a, width, signed)
        operator, b = _BINARY[kind], ports["\\B"]
        if operator in _SHIFTS:
            return self._shift(operator, a, b, width, signed)
        if signed != (cell.parameters["\\B_SIGNED"] == "1"):
            raise ValueError(f"both operands of {kind} must be signed or none")
        if operator in _COMPARISONS:
            return self._comparison(operator, a, b, signed)
        return self._binary(operator, a, b, width, signed)

    def _width(self, signal: str) -> int:
        return sum(piece.width for piece in self._pieces(signal))

    def _mux(self, test: str, yes: str, no: str, width: int) -> Expression:
        given = self._width(yes)
        one, two = self.signal(yes, given, given > width), self.signal(no, given, given > width)
        return Expression(f"{self.signal(test).branch} ? {one.branch} : {two.text}", width,
                          max(one.own, two.own), "?", one.extends and two.extends)

    def _reduction(self, operator: str, a: str) -> Expression:
        inner = self.signal(a)
        return inner if inner.width == 1 else Expression(operator + inner.inner, 1, 1, "reduce")

    def _unary(self, operator: str, a: str, width: int, signed: bool) -> Expression:
        if signed:
            return self._signed(f"{operator}$signed({self.signal(a).text})", width)
        given = self._width(a)
        inner = self.signal(a, max(width, given), given > width)
        return Expression(operator + inner.inner, width, inner.own, operator, False)

    def _shift(self, operator: str, a: str, b: str, width: int, signed: bool) -> Expression:
        given, amount = self._width(a), self.signal(b).operand
        if signed:
            operator = operator if operator == "<<" else ">>>"
            return self._signed(f"$signed({self.signal(a).text}) {operator} {amount}", width)
        inner = self.signal(a, max(given, width), given > width)
        return Expression(f"{inner.operand} {operator} {amount}", width, inner.own, operator,
                          operator != "<<" and inner.extends)

    def _comparison(self, operator: str, a: str, b: str, signed: bool) -> Expression:
        if signed:
            text = f"$signed({self.signal(a).text}) {operator} $signed({self.signal(b).text})"
        else:
            context = max(self._width(a), self._width(b))
            one, two = self.signal(a, context, True), self.signal(b, context, True)
            text = f"{one.operand} {operator} {two.operand}"
        return Expression(text, 1, 1, operator)

    def _binary(self, operator: str, a: str, b: str, width: int, signed: bool) -> Expression:
        if signed:
            return self._signed(f"$signed({self.signal(a).text}) {operator} "
                                f"$signed({self.signal(b).text})", width)
        given = max(self._width(a), self._width(b))
        context = max(width, given)
        one = self.signal(a, context, given > width)
        two = self.signal(b, context, given > width)
        left = one.text if one.top == operator and operator in "&|^+" else one.operand
        return Expression(f"{left} {operator} {two.operand}", width, max(one.own, two.own),
                          operator, operator in "&|^" and one.extends and two.extends)

    @staticmethod
    def _signed(text: str, width: int) -> Expression:
        """One whose operands have signs: inside another they might lose them, so that it says to
        be of a width that fits nowhere."""
        return Expression(text, width, width + 1, "$signed", False)


def _connected(module: Module, widths: Mapping[str, int]) -> dict[str, dict[tuple[int, int], str]]:
    """By wire without a name and by bits of it, the wire that is connected to them."""
    found: dict[str, dict[tuple[int, int], str]] = {}
    for target, value in module.connections:
        pieces = module.pieces(value)
        if len(pieces) == 1 and pieces[0].wire[:1] == "$" and \
                pieces[0].width < widths[pieces[0].wire]:
            found.setdefault(pieces[0].wire, {}).setdefault(pieces[0][1:3], target)
    return found
