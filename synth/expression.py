"""Boolean functions as Liberty writes them: read, and written for Verilog and for numpy.

``!`` or a quote after it inverts; ``^`` binds before ``&`` (also ``*`` and a space), that before
``|`` (also ``+``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Expression", "parse"]

_TOKEN = re.compile(r"\s*([A-Za-z_]\w*(?:\[\d+\])?|[01!'&*|+^()])")
_SIGNS = ("|+", "&*", "^")


@dataclass(frozen=True)
class Expression:
    """``text``: fully bracketed over ``~ & | ^``, each name in braces, for ``str.format``.
    ``names``: those in it."""

    text: str
    names: frozenset[str]

    def over(self, given: Mapping[str, str]) -> str:
        """With each name replaced: Verilog, or Python over arrays of words."""
        return self.text.format_map(given)


def parse(text: str) -> Expression:
    """``ValueError`` for what is none."""
    tokens, at = [], 0
    stripped = text.strip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if match is None:
            raise ValueError(f"function must be of names, ! & | ^ and brackets, not {text!r}")
        tokens.append(match[1])
        at = match.end()
    names = frozenset(token for token in tokens if token[0].isalpha() or token[0] == "_")
    reader = _Reader(tokens)
    try:
        made = reader.level(0)
    except IndexError:
        made = None
    if made is None or reader.tokens:
        raise ValueError(f"function must be of names, ! & | ^ and brackets, not {text!r}")
    return Expression(made, names)


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def level(self, number: int) -> str:
        """An expression of signs that bind as ``_SIGNS[number]`` or more."""
        if number == len(_SIGNS):
            return self.factor()
        made = self.level(number + 1)
        while self.tokens and self._joins(number):
            if self.tokens[0] in _SIGNS[number]:
                self.tokens.pop(0)
            made = f"({made} {_SIGNS[number][0]} {self.level(number + 1)})"
        return made

    def _joins(self, number: int) -> bool:
        """Whether the next token goes on at this level: its sign, or for AND nothing at all."""
        token = self.tokens[0]
        return token in _SIGNS[number] or (number == 1 and (token[0].isalnum() or token in "_!("))

    def factor(self) -> str:
        token = self.tokens.pop(0)
        if token == "!":
            made = f"~{self.factor()}"
        elif token == "(":
            made = self.level(0)
            if self.tokens.pop(0) != ")":
                raise IndexError
        elif token[0].isalpha() or token[0] == "_":
            made = f"{{{token}}}"
        else:
            raise IndexError
        while self.tokens and self.tokens[0] == "'":
            self.tokens.pop(0)
            made = f"~{made}"
        return made
