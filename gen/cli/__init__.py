"""What the generators' command lines share: configuration flags, one-line errors, safe output."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from hdl.spec.config import (
    ACCUMULATORS,
    FUNCTION_SETS,
    SOFTMAX_MODES,
    AcceleratorConfig,
)
from hdl.spec.formats import FORMATS

__all__ = ["Parser", "add_config_flags", "comment", "config_from", "deliver", "describe",
           "in_ascii", "make_folder", "number", "piped"]

_FLAGS: tuple[tuple[str, str], ...] = (
    ("fmt", "number format: " + ", ".join(FORMATS)),
    ("dim", "rows and columns of the array, a power of two (16)"),
    ("lanes", "lanes of the vector unit, a power of two (the smaller of 16 and --dim)"),
    ("acc", "accumulator: " + ", ".join(ACCUMULATORS) + " (the format's own)"),
    ("k-max", "largest K of a GEMM with the exact accumulator (4096)"),
    ("softmax", "exp and 1/x: " + ", ".join(SOFTMAX_MODES) + " (the format's own)"),
    ("functions", "of the vector unit: " + ", ".join(FUNCTION_SETS) + " (all)"),
    ("exp-epsilon", "epsilon of the bit-trick exponential in units of 2^-7, 0 to 255"),
    ("exp-theta", "theta of the bit-trick exponential in units of 2^-7, -32640 to 0"),
    ("input-depth", "words of each input bank"),
    ("weight-depth", "words of the weight buffer"),
    ("acc-depth", "words of each accumulation bank"),
    ("row-depth", "rows whose reductions are held at once"),
    ("bus-bytes", "bytes of the AXI4 data bus"),
    ("stuck-cycles", "cycles without an answer after which the bus counts as stuck (65536)"),
    ("pe-latency", "registers of a multiply-accumulate unit, 1 or 2"),
    ("lane-latency", "registers of each of a lane's four stages, 1 or 2"),
)
# Verilog-2005 is ASCII; some tools stop at anything else, even in a comment.
_ASCII = str.maketrans({"×": "x", "·": "*", "−": "-", "–": "-", "…": "...", "→": "->", "←": "<-",
                        "≥": ">=", "≤": "<=", "≠": "!=", "±": "+/-", "²": "^2", "Σ": "sum",
                        "ε": "epsilon", "θ": "theta", "∞": "infinity", "⌈": "ceil(", "⌉": ")",
                        "⌊": "floor(", "⌋": ")"})
_NAMES = ("fmt", "acc", "softmax", "functions")


class Parser(argparse.ArgumentParser):
    """Reports an error in one line on standard error and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def number(text: str) -> int | str:
    """The integer that ``text`` spells, or the text, which the configuration then refuses."""
    try:
        return int(text)
    except ValueError:
        return text


def add_config_flags(parser: argparse.ArgumentParser, output: bool = True) -> None:
    """Add a flag for everything in ``AcceleratorConfig`` that a user may choose, and -o for those
    whose ``output`` is a file."""
    for flag, text in _FLAGS:
        parser.add_argument(f"--{flag}", type=str if flag in _NAMES else number, help=text)
    parser.add_argument("--exact-power-reciprocal", action="store_true", default=None,
                        help="bit-trick reciprocal that is exact at powers of two")
    if output:
        parser.add_argument("-o", "--output", metavar="FILE",
                            help="write FILE, not standard output")


def config_from(arguments: argparse.Namespace) -> AcceleratorConfig:
    """The configuration that the flags name; ``ValueError`` in one line."""
    chosen = {}
    for item in fields(AcceleratorConfig):
        value = getattr(arguments, item.name, None)
        if value is not None:
            chosen[item.name] = value
    return AcceleratorConfig(**chosen)


def describe(config: AcceleratorConfig) -> str:
    """The configuration in one line, every value named."""
    return " ".join(f"{name}={value}" for name, value in config.as_dict().items())


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


def make_folder(parser: argparse.ArgumentParser, path: Path) -> None:
    """Make folder ``path`` and those above it; the parser's error where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"output must be in a folder that can be made, not {str(path)!r}: "
                     f"{error.strerror or error}")


def deliver(parser: argparse.ArgumentParser, path: str | None, produce: Callable[[], str]) -> int:
    """Send ``produce()`` to ``path`` or standard output; the exit code.

    A file appears whole or not at all: the text goes to a temporary file beside it, which is
    opened first, so that an unwritable place is told before the work begins.
    """
    try:
        if path is None:
            return _to_stdout(produce())
        _to_file(path, produce)
        return 0
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        place = "standard output" if path is None else repr(path)
        parser.error(f"output must be a writable file, not {place}: {error.strerror or error}")


def piped(main: Callable[[], int]) -> int:
    """The exit code of ``main()``, which prints; 1 where the reader of a pipe has left."""
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has seen enough; a second flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _to_stdout(text: str) -> int:
    def write() -> int:
        sys.stdout.write(text)
        return 0

    return piped(write)


def _to_file(path: str, produce: Callable[[], str]) -> None:
    target = Path(path).resolve()
    if target.is_dir():
        raise IsADirectoryError(0, "it is a directory")
    if target.exists() and not target.is_file():  # a device or a pipe cannot be renamed over
        target.write_text(produce())
        return
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(0, "it is read-only")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("x") as file:
            file.write(produce())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
