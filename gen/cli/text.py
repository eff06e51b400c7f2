"""Comments of generated files, in ASCII."""

import textwrap
from collections.abc import Iterable

__all__ = ["comment", "in_ascii"]

# Verilog-2005 is ASCII; some tools stop at anything else, even in a comment.
_ASCII = str.maketrans({"×": "x", "·": "*", "−": "-", "–": "-", "…": "...", "→": "->", "←": "<-",
                        "≥": ">=", "≤": "<=", "≠": "!=", "±": "+/-", "²": "^2", "Σ": "sum",
                        "ε": "epsilon", "θ": "theta", "∞": "infinity", "⌈": "ceil(", "⌉": ")",
                        "⌊": "floor(", "⌋": ")"})


def in_ascii(text: str) -> str:
    """``text`` with the signs of mathematics spelled out; what is left becomes a ``?``."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


def comment(lines: Iterable[str]) -> str:
    """``lines`` as a Verilog comment in ASCII, none wider than 100 columns."""
    text = []
    for line in lines:
        line = in_ascii(line)
        indent = " " * (len(line) - len(line.lstrip()))
        text += textwrap.wrap(line, 97, subsequent_indent=indent + "  ", drop_whitespace=True,
                              break_long_words=False) or [""]
    return "".join(f"// {line}".rstrip() + "\n" for line in text)
