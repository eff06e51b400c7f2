"""Statements of Verilog for the processes of RTLIL."""

from gen.verilog.expressions import Expressions, constant
from gen.verilog.rtlil import Assign, Body, Case, Module, Piece, Process, Switch, bit_by_bit, joined

__all__ = ["WIDEST", "Statements"]

WIDEST = 100  # columns of a line

_FEW = 4  # ways of a choice that is an expression


def _single(pattern: str) -> bool:
    """Whether ``pattern`` asks for the value of one bit alone."""
    return pattern.count("-") == len(pattern) - 1


def _empty(body: Body) -> bool:
    return not any(isinstance(item, Assign) or any(not _empty(case) for _, case in item.cases)
                   for item in body)


def _ends(switch: Switch) -> list[Case]:
    """Cases of ``switch`` without the last ones in which nothing is assigned."""
    cases = list(switch.cases)
    while cases and _empty(cases[-1][1]):
        cases.pop()
    return cases


class Statements:
    """Those of one module."""

    def __init__(self, module: Module, names: dict[str, str], expressions: Expressions) -> None:
        self._pieces = module.pieces
        self._widths = expressions.widths
        self._names = names
        self._expressions = expressions

    def straight(self, process: Process) -> str:
        """The value of a wire that ``process`` assigns piece by piece, without a choice."""
        bits = bit_by_bit(self._pieces(process.default.value))[::-1]
        for item in process.body:
            if isinstance(item, Assign):
                piece, = self._pieces(item.target)
                bits[piece.low:piece.low + piece.width] = bit_by_bit(self._pieces(item.value))[::-1]
        return self._expressions.of_pieces(joined(bits[::-1]), len(bits)).text

    def choice(self, process: Process) -> str | None:
        """The same as an expression, where it is one choice between values of the whole wire."""
        if len(process.body) != 1 or not isinstance(process.body[0], Switch):
            return None
        default, switch = process.default, process.body[0]
        width = self._width(default.target)
        cases = _ends(switch)
        if len(cases) > _FEW:
            return None
        chosen: list[tuple[str, Assign]] = []
        for place, (patterns, case) in enumerate(cases):
            last = not patterns and place == len(cases) - 1
            if not last and not (len(patterns) == 1 and _single(patterns[0])):
                return None
            item = case[0] if len(case) == 1 else None
            if not isinstance(item, Assign) or item.target != default.target:
                return None
            chosen.append((patterns[0] if patterns else "", item))
        if not chosen or chosen[-1][0]:
            chosen.append(("", default))
        selector = bit_by_bit(self._pieces(switch.selector))
        text = []
        for pattern, item in chosen:
            value = self._expressions.signal(item.value, width)
            text.append(f"{self._bit(selector, pattern)} ? {value.branch}" if pattern else
                        value.text)
        return " : ".join(text)

    def block(self, body: Body, operator: str, indent: str, target: str = "") -> list[str]:
        """Lines of ``body``, whose assignments use ``operator``; ``target``: the name of the wire
        that they assign instead."""
        lines: list[str] = []
        for item in body:
            if isinstance(item, Assign):
                lines.append(indent + self._assign(item, operator, target))
            elif not _empty([item]):
                lines += self._switch(item, operator, indent, target)
        return lines

    def _width(self, signal: str) -> int:
        return sum(piece.width for piece in self._pieces(signal))

    def _assign(self, item: Assign, operator: str, target: str) -> str:
        name, low, width, _ = self._pieces(item.target)[0]
        place = target or self._names[name]
        if width != self._widths[name]:
            place += f"[{low}]" if width == 1 else f"[{low + width - 1}:{low}]"
        return f"{place} {operator} {self._expressions.signal(item.value, width).text};"

    def _bit(self, selector: list[Piece], pattern: str) -> str:
        """The condition that ``pattern``, of one bit alone, stands for."""
        place = next(place for place, bit in enumerate(pattern) if bit != "-")
        bit = self._expressions.of_pieces((selector[place],))
        return bit.branch if pattern[place] == "1" else "~" + bit.inner

    def _switch(self, switch: Switch, operator: str, indent: str, target: str) -> list[str]:
        if not self._pieces(switch.selector):  # nothing to tell cases apart by: the first one runs
            return self.block(switch.cases[0][1], operator, indent, target)
        cases = _ends(switch)
        if not cases[0][0]:
            return self.block(cases[0][1], operator, indent, target)
        if all(len(patterns) <= 1 and all(map(_single, patterns)) for patterns, _ in cases):
            selector = bit_by_bit(self._pieces(switch.selector))
            chain = [(self._bit(selector, patterns[0]) if patterns else "",
                      self.block(case, operator, indent + "  ", target))
                     for patterns, case in cases]
            return _chain(chain, indent)
        return self._case(switch.selector, cases, operator, indent, target)

    def _case(self, selector: str, cases: list[Case], operator: str, indent: str, target: str
              ) -> list[str]:
        plain = not any("-" in pattern for patterns, _ in cases for pattern in patterns)
        if plain and cases[-1][0]:
            cases = [case for case in cases if not _empty(case[1])]
        chosen = self._expressions.signal(selector).text
        if plain and len(cases) == 1 and len(cases[0][0]) == 1:
            test = f"{chosen} == {constant(cases[0][0][0])}"
            return _chain([(test, self.block(cases[0][1], operator, indent + "  ", target))],
                          indent)
        lines = [f"{indent}{'case' if plain else 'casez'} ({chosen})"]
        inner = indent + "  "
        groups: list[tuple[list[str], list[str]]] = []
        for patterns, case in cases:
            labels = [constant(pattern) if plain else
                      f"{len(pattern)}'b{pattern.replace('-', '?')}" for pattern in patterns]
            block = self.block(case, operator, inner + "  ", target)
            if groups and labels and groups[-1][0] and groups[-1][1] == block:
                groups[-1][0].extend(labels)
            else:
                groups.append((labels, block))
        for labels, block in groups:
            lines += _branch(f"{inner}{', '.join(labels) or 'default'}:", block, inner)
        return [*lines, f"{indent}endcase"]


def _branch(head: str, block: list[str], indent: str) -> list[str]:
    """``head`` and the statements below it, on the same line where they are one that fits.

    A choice is never: an ``else`` that follows would belong to it.
    """
    if not block:
        return [f"{head} ;"]
    first = block[0].lstrip()
    if len(block) == 1 and len(head) + len(first) < WIDEST and not first.startswith("if "):
        return [f"{head} {first}"]
    return [f"{head} begin", *block, f"{indent}end"]


def _neither(tests: list[str]) -> str:
    """The condition that none of ``tests`` holds."""
    if len(tests) == 1:
        return f"~{tests[0]}" if tests[0].isidentifier() else f"~({tests[0]})"
    return f"~({' | '.join(one if one.isidentifier() else f'({one})' for one in tests)})"


def _chain(cases: list[tuple[str, list[str]]], indent: str) -> list[str]:
    """``if``, ``else if`` ... for conditions and their blocks; without a condition, ``else``."""
    lines: list[str] = []
    word = ""
    while cases:
        skipped = []
        while cases and not cases[0][1]:
            skipped.append(cases.pop(0)[0])
        if skipped and cases[0][0]:
            inner = _chain([(test, _deeper(block)) for test, block in cases], indent)
            return [*lines, f"{indent}{word}if ({_neither(skipped)}) begin", *_deeper(inner),
                    f"{indent}end"]
        test, block = cases.pop(0)
        test = _neither(skipped) if skipped else test
        if test:
            lines += _branch(f"{indent}{word}if ({test})", block, indent)
        else:
            lines += _branch(f"{indent}else", block, indent)
        word = "else "
    return lines


def _deeper(block: list[str]) -> list[str]:
    return ["  " + line for line in block]
