"""RTLIL text to Verilog-2005: Yosys writes it, and what bites a tool or a reader is mended.

Yosys' own names, ``\\$12`` and longer ones that hold a source file's line, become ``_12`` and
``_wake``; signals of no bits go; wires of one width share a declaration.
"""

import re
import textwrap
from collections.abc import Iterable

from gen.amaranth_private import yosys_verilog

__all__ = ["to_verilog"]

_MODULE = re.compile(r"^module .*?^endmodule", re.MULTILINE | re.DOTALL)
_WAKE_NAME = re.compile(r"\\\$auto\$\S+dump_module\S* ")
_WAKE = "if (_wake) begin end"
_CONSTANT_BLOCK = re.compile(
    r"^  always @\*\n    (\S[^=\n]* = \d+'s?[bdho][0-9a-fxz_]+;)\n", re.MULTILINE)
_NO_BITS = re.compile(r"^  wire \[-1:0\] .*;\n", re.MULTILINE)
_PORT_WIRE = re.compile(
    r"^(  (?:input|output) ((?:\[\d+:0\] )?\S+ ?;)\n)  wire \2\n", re.MULTILINE)
_TEMPORARY = re.compile(r"\\\$(\d+) ")
_TAKEN = re.compile(r"(?<![\w$\\])_(?:\d+|wake)\b")
_WIRE = re.compile(r"(?<!\*\)\n)^  wire (\[\d+:0\] )?(\S+ ?);\n", re.MULTILINE)


def to_verilog(rtlil_text: str | Iterable[str]) -> str:
    """Verilog-2005 of RTLIL text, the same on every machine: no source paths, no dates."""
    text = rtlil_text if isinstance(rtlil_text, str) else "".join(rtlil_text)
    written = yosys_verilog(text)
    # A signal of no bits is written as [-1:0], which Verilog takes for two; nobody reads it.
    # A port is a wire without being told so.
    written = _PORT_WIRE.sub(r"\1", _NO_BITS.sub("", written))
    return _MODULE.sub(lambda module: _share_wires(_wake_constants(_rename(module[0]))), written)


def _rename(module: str) -> str:
    """Plain names for Yosys' own, unless the module uses such names itself."""
    if _TAKEN.search(module):
        taken = _TAKEN.search(module)
        raise ValueError(f"a signal is called {taken and taken[0]!r}, a name of the writer's")
    return _TEMPORARY.sub(r"_\1", _WAKE_NAME.sub("_wake", module))


def _wake_constants(module: str) -> str:
    """Let blocks that drive some bits of a variable with a constant run once.

    ``always @*`` over a constant waits for an event that never comes, and its bits stay unknown;
    Yosys gives its other blocks a dummy register whose initial value is that event. As an
    initialiser it would be none in SystemVerilog, which sets it before any block starts.
    """
    text = module.replace("  reg _wake = 0;\n", "  reg _wake;\n  initial _wake = 0;\n")
    there = _WAKE in text

    def wake(block: re.Match) -> str:
        if not there:
            raise ValueError(f"constant block {block[0]!r} must be woken, but nothing is there to")
        return f"  always @* begin\n    {_WAKE}\n    {block[1]}\n  end\n"

    return _CONSTANT_BLOCK.sub(wake, text)


def _share_wires(module: str) -> str:
    """Declare all wires of a width together, the widest first, where the first one stood."""
    widths: dict[str, list[str]] = {}
    for width, name in sorted(_WIRE.findall(module), key=lambda wire: -_bits(wire[0])):
        widths.setdefault(width, []).append(name)
    if not widths:
        return module
    first = _WIRE.search(module)
    assert first is not None, "a module without wires has none to join"
    start = first.start()
    lines = [line for width, names in widths.items()
             for line in textwrap.wrap(f"wire {width}" + ", ".join(names) + ";", 100,
                                       initial_indent="  ", subsequent_indent="    ",
                                       break_long_words=False, break_on_hyphens=False)]
    return _WIRE.sub("", module[:start]) + "\n".join(lines) + "\n" + _WIRE.sub("", module[start:])


def _bits(width: str) -> int:
    """Bits of a wire that is declared with ``width``, [7:0] say or nothing."""
    return int(width[1:].partition(":")[0]) + 1 if width else 1
