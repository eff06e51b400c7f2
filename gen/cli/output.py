"""Products of tools: each file whole or not there, and an unwritable place reported before the
work."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gen.cli.folders import build_folder
from gen.cli.parser import piped

__all__ = ["add_product", "add_record", "appearing", "deliver", "make_folder", "prepared", "save",
           "writable"]


def make_folder(parser: argparse.ArgumentParser, path: Path) -> None:
    """Make folder ``path`` and those above it; the parser's error where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"output must be in a folder that can be made, not {str(path)!r}: "
                     f"{error.strerror or error}")


def deliver(parser: argparse.ArgumentParser, path: str | Path | None, produce: Callable[[], str],
            what: str = "output", beside: Mapping[str, Callable[[], str]] | None = None) -> int:
    """Send ``produce()`` to ``path`` or standard output; the exit code. ``beside``: other files,
    and what goes to them.

    A file appears whole or not at all, several together: a text goes to a temporary file next to
    its own, which is opened first, so that an unwritable place is reported before the work begins.
    """
    texts = {**({} if path is None else {str(path): produce}), **(beside or {})}
    if len({Path(place).resolve() for place in texts}) < len(beside or {}) + (path is not None):
        parser.error(f"{what} must be a file of its own, not {str(path)!r} twice")
    text = ""
    with ExitStack() as begun:
        files = {}
        for place in texts:
            with _told(parser, place, what):
                files[place] = begun.enter_context(appearing(Path(place).resolve()))
        if path is None:
            with _told(parser, None, what):
                text = produce()
        for place, make in texts.items():
            with _told(parser, place, what):
                files[place].write_text(make(), encoding="utf-8")
    if path is not None:
        return 0

    def write() -> int:
        sys.stdout.write(text)
        return 0

    with _told(parser, None, what):
        return piped(write)


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Where to write what becomes ``target``, whole, unless an error stops it; ``OSError``."""
    if _special(target):  # cannot be renamed over
        yield target
        return
    temporary = _begun(target)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def save(parser: argparse.ArgumentParser, path: str | Path, write: Callable[[Path], object],
         what: str = "output") -> int:
    """Let ``write`` make a file that then takes the place ``path``, as ``deliver``; 0."""
    with _told(parser, path, what), appearing(Path(path).resolve()) as file:
        write(file)
    return 0


def add_product(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """-o, which is ``name`` among the products of builds unless chosen (``folders``)."""
    parser.add_argument("-o", "--output", metavar="FILE", default=str(build_folder() / name),
                        help=f"{text} (build/{name})")


def add_record(parser: argparse.ArgumentParser) -> None:
    """--json, for what writes Verilog."""
    parser.add_argument("--json", metavar="FILE",
                        help="also write what the Verilog holds: modules, ports, instances, ...")


def writable(parser: argparse.ArgumentParser, path: str | Path, what: str = "output") -> None:
    """The parser's error unless a file may be written at ``path``: asked before hours of work
    whose product is to go there."""
    target = Path(path).resolve()
    with _told(parser, path, what):
        if not _special(target):
            _begun(target).unlink()


def prepared(parser: argparse.ArgumentParser, path: str | Path) -> None:
    """``writable``, in a folder that is made where there is none."""
    make_folder(parser, Path(path).absolute().parent)
    writable(parser, path)


@contextmanager
def _told(parser: argparse.ArgumentParser, path: str | Path | None, what: str) -> Iterator[None]:
    """Errors within as the parser's."""
    try:
        yield
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        place = "standard output" if path is None else repr(str(path))
        parser.error(f"{what} must be a writable file, not {place}: {error.strerror or error}")


def _special(target: Path) -> bool:
    """Whether it is a device or a pipe."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _begun(target: Path) -> Path:
    """An empty file next to ``target``, which it is to replace; ``OSError``."""
    if target.is_dir():
        raise IsADirectoryError(0, "it is a directory")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(0, "it is read-only")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.open("x").close()
    return temporary
