"""Parsers whose errors are one line and exit code 2, and what their options are made of."""

import argparse
import gc
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

__all__ = ["Parser", "add_jobs", "add_names", "add_offline", "add_on", "add_quiet", "add_seed",
           "alone", "integer", "number", "piped", "real"]

_ARGUMENT = re.compile(r"argument (\S+): must be ")


class Parser(argparse.ArgumentParser):
    """Reports an error in one line on standard error, with the value and what is allowed, and
    exits with code 2. Options are spelt in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | options)

    def error(self, message: str) -> NoReturn:
        named = _ARGUMENT.sub(lambda found: f"{found[1].split('/')[-1]} must be ", message)
        self.exit(2, f"{self.prog}: error: {' '.join(named.split())}\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"must be one of {', '.join(map(str, action.choices))}, not {value!r}")


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


def alone(main: Callable[[], int]) -> int:
    """The exit code of ``main()``, which is all that this process does.

    A generator makes millions of objects and then ends: to search them for cyclic garbage, on the
    way and at the end, would take a fifth of its time.
    """
    gc.disable()
    try:
        return main()
    finally:
        gc.freeze()


# Types of values

def number(text: str) -> int | str:
    """The integer that ``text`` spells, or the text, which whoever knows the range then refuses."""
    try:
        return int(text)
    except ValueError:
        return text


def integer(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """A type of option: integers from ``least`` to ``most``, both included."""
    span = "" if least is None else f" from {least} " + ("up" if most is None else f"to {most}")

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer{span}, not {text!r}") from None
        if (least is not None and value < least) or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"must be an integer{span}, not {value}")
        return value

    return parse


def real(least: float, most: float = float("inf")) -> Callable[[str], float]:
    """A type of option: finite numbers from ``least`` to ``most``, both included."""
    span = f"from {least:g} " + ("up" if most == float("inf") else f"to {most:g}")

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (least <= value <= most and value < float("inf")):
            raise argparse.ArgumentTypeError(f"must be a number {span}, not {text!r}")
        return value

    return parse


# Options that many tools have

def add_names(parser: argparse.ArgumentParser, flag: str, allowed: Sequence[str],
              default: Sequence[str] | None, text: str) -> None:
    """``flag`` takes names out of ``allowed``, several at once or by turns."""
    usual = "all" if default is None else " ".join(default)
    parser.add_argument(flag, action=_Names, nargs="+", choices=list(allowed), metavar="NAME",
                        default=default, help=f"{text}, of {', '.join(allowed)} ({usual})")


class _Names(argparse.Action):
    """Collects values in a list of their own, which the default is not part of."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                 values: Any, option_string: str | None = None) -> None:
        given = getattr(namespace, self.dest)
        earlier = [] if given is self.default else given
        setattr(namespace, self.dest, [*earlier, *values])


def add_seed(parser: argparse.ArgumentParser, text: str = "of everything random",
             default: int = 0) -> None:
    parser.add_argument("--seed", type=integer(0), default=default, metavar="N",
                        help=f"{text} ({default})")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true",
                        help="no progress on standard error, which what takes more than two "
                        "seconds shows")


def add_jobs(parser: argparse.ArgumentParser, text: str = "builds at once") -> None:
    parser.add_argument("--jobs", type=integer(1), default=os.cpu_count() or 1, metavar="N",
                        help=f"{text} (one a processor)")


def add_scheduler(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--scheduler", metavar="ADDRESS",
                        help=f"share {text} out to the workers of dask.distributed instead, "
                        "tcp://HOST:8786 say")


def add_on(parser: argparse.ArgumentParser, usual: str, **places: str) -> None:
    """Where something runs; ``places``: what each name stands for."""
    told = "; ".join(f"{name}: {text}" for name, text in places.items())
    parser.add_argument("--on", choices=tuple(places), default=usual, help=f"{told} ({usual})")


class Options(Protocol):
    """A parser, or a group of its options."""

    def add_argument(self, *names: str, action: Any, help: str) -> Any:
        """An option more."""


def add_offline(parser: Options, what: str = "models") -> None:
    parser.add_argument("--offline", action="store_true",
                        help=f"take {what} from the cache, never from the network")
