"""Names of a module's wires as plain identifiers of Verilog."""

import re
from collections.abc import Iterable

from gen.verilog.rtlil import Wire

__all__ = ["IDENTIFIER", "RESERVED", "Identifiers"]

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Reserved in Verilog or SystemVerilog.
RESERVED = frozenset("""
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
_FOREIGN = re.compile(r"[^A-Za-z0-9_]+")


class Identifiers(dict[str, str]):
    """An identifier for the name of each of ``wires``, none of them twice nor in ``taken``.

    A name of the design that is an identifier stays as it is, ports first; every other character
    of one becomes a ``_``. The names that Amaranth makes up, ``$12``, become ``_12``.
    """

    def __init__(self, wires: Iterable[Wire], taken: Iterable[str] = ()) -> None:
        self._used = {*taken, *RESERVED}
        rest = []
        for wire in sorted(wires, key=lambda wire: not wire.direction):
            name = wire.name[1:]
            if wire.name[0] == "\\" and name not in self._used and IDENTIFIER.match(name):
                self[wire.name] = name
                self._used.add(name)
            else:
                rest.append(wire.name)
        for name in rest:
            self.add(name)

    def add(self, name: str) -> str:
        """One more identifier."""
        plain = _FOREIGN.sub("_", name[name[0] == "\\":]).rstrip("_") or "_"
        if plain[0].isdigit():
            plain = "_" + plain
        number, chosen = 1, plain
        while chosen in self._used:
            number += 1
            chosen = f"{plain}_{number}"
        self[name] = chosen
        self._used.add(chosen)
        return chosen
