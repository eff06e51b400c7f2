"""Cell libraries: which Liberty file a flow maps to, and what one NAND2 of it takes."""

import argparse
import hashlib
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gen.cli.folders import checkout

__all__ = ["LIBRARIES", "Library", "LibraryMissing", "add_library", "library_named"]

_PACKAGE = Path("usr/share/qflow/tech/osu018")
OSU018_FOLDERS = tuple(root / _PACKAGE for root in (
    Path(sys.prefix, "osu018"), (checkout() or Path(sys.prefix)) / ".venv/osu018", Path("/")))
LIBRARIES = ("ottava", "osu018")

_NAND2 = re.compile(r"\bcell\s*\(\s*\"?(\w*(?:NAND2|(?<![A-Za-z])ND2)\w*)\"?\s*\)\s*\{",
                    re.IGNORECASE)
_AREA = re.compile(r"\barea\s*:\s*\"?([0-9.eE+-]+)")


class LibraryMissing(Exception):
    """The library is not on this machine; the text says how to get it."""


@dataclass(frozen=True)
class Library:
    """A Liberty file. ``name`` is what tables print; a file of the user's goes by its path."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(errors="replace")

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @cached_property
    def nand2(self) -> tuple[str, float]:
        """Name and area of the smallest two-input NAND: what a gate-equivalent is here."""
        cells = []
        for match in _NAND2.finditer(self.text):
            found = _AREA.search(self.text, match.end())
            if found and float(found[1]) > 0:
                cells.append((float(found[1]), match[1]))
        if not cells:
            raise ValueError(f"library must have a cell whose name holds NAND2, not {self.path}")
        area, name = min(cells)
        return name, area

    def __str__(self) -> str:
        name, area = self.nand2
        return f"{self.name} (NAND2 = {name}, area {area:g})"


def library_named(name: str = "ottava", liberty: str | None = None) -> Library:
    """The library called ``name``, or the Liberty file at path ``liberty`` instead.

    ``ottava`` is this project's own (``synth.cells``), ``osu018`` the OSU 0.18 um cells, which
    the set-up unpacks. ``LibraryMissing`` where its file is absent, ``ValueError`` for a name or a
    file that is none.
    """
    if liberty is not None:
        path = Path(liberty)
        if not path.is_file():
            raise ValueError(f"liberty must be a Liberty file, not {liberty!r}")
        found = Library(str(path), path)
        found.nand2  # noqa: B018  refuses a file without one before any work begins
        return found
    if name == "ottava":
        return Library("ottava", Path(__file__).with_name("ottava.lib"))
    if name == "osu018":
        for folder in OSU018_FOLDERS:
            path = folder / "osu018_stdcells.lib"
            if path.is_file():
                return Library("osu018", path)
        raise LibraryMissing("library osu018 is not here: `make setup` unpacks it where a Debian "
                             "archive (package qflow-tech-osu018) can be reached")
    raise ValueError(f"library must be one of {', '.join(LIBRARIES)}, not {name!r}")


def add_library(parser: argparse.ArgumentParser, usual: str = "ottava") -> None:
    """The arguments of ``library_named``."""
    parser.add_argument("--library", default=usual, metavar="NAME",
                        help=f"cell library: {', '.join(LIBRARIES)} ({usual})")
    parser.add_argument("--liberty", metavar="PATH", help="a Liberty file instead")
