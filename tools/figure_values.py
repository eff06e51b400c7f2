"""How figures are taken of what a command prints: what the sources of all of them share."""

import re
from collections.abc import Callable, Mapping, Sequence

__all__ = ["FORMATS", "Values", "found", "grouped", "numbers", "report", "table"]

Values = dict[str, str | list[str]]
FORMATS = ("posit8", "fp8", "bf16")
_SECONDS = re.compile(r"^ran in |^compiled in | in [0-9.]+ s$|, [0-9.]+ s$")


def found(pattern: str, output: str) -> re.Match[str]:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise ValueError(f"output must have {pattern!r}; it begins {output[:80]!r}")
    return match


def grouped(text: str) -> str:
    """Digits with commas between thousands; anything else as it is."""
    return f"{int(text):,}" if text.isdigit() else text


def numbers(patterns: Mapping[str, str]) -> Callable[[str], Values]:
    """A value for each pattern: its first group."""
    return lambda output: {name: grouped(found(pattern, output)[1])
                           for name, pattern in patterns.items()}


def report(output: str) -> list[str]:
    """Output as a block of code, without lines that tell how long it took."""
    lines = [re.sub(r"(modelled) in [0-9.]+ s", r"\1", line) for line in output.splitlines()]
    return [f"    {line}".rstrip() for line in lines if not _SECONDS.search(line)]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (heads, *rows)]
    return [lines[0], "|" + "---|" * len(heads), *lines[1:]]
