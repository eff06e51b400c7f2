"""Figures that pages quote: ``python tools/figures.py``, ``--check [NAMES]``, ``--renew NAMES``.

``docs/figures.json`` holds every figure with the command that prints it. A page shows one between
marks, ``<!-- = head.cycles -->6,598<!-- / -->``, or a whole table or output on lines of their own.
Without options the marked text of all pages is written anew from the file. ``--renew`` runs the
commands first and keeps what they print; ``--check`` writes nothing and fails where a page differs
from the file, and where a command that NAMES select prints something else. NAMES are sources
(``tools/figure_sources.py``), patterns of them (``'head*'``), ``cheap`` for those that take
seconds, or ``all``. Exit code 1 where something differs, 2 for a wrong argument or mark.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout, wherever another one is installed

from gen.cli import Parser  # noqa: E402
from tools.figure_sources import SOURCES, Source  # noqa: E402
from tools.figure_values import Values  # noqa: E402

_MARK = re.compile(r"<!-- = (\S+) -->(.*?)<!-- (?:/|= \S+) -->", re.DOTALL)
_OPEN = re.compile(r"<!-- = ")
_PROGRAM = 3  # words of a command that a page must name: python -m MODULE

Figures = dict[str, dict]


class WrongMark(ValueError):
    """A mark of a page names no figure, or is not closed; the text is one line."""


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def shown(value: str | list[str]) -> str:
    """A value as it stands between its marks: lines have marks on lines of their own."""
    return value if isinstance(value, str) else "\n\n" + "\n".join(value) + "\n\n"


def rewritten(page: Path, figures: Figures) -> str:
    """The page's text with every figure as ``figures`` has it."""
    text = page.read_text(encoding="utf-8")

    def renew(match: re.Match[str]) -> str:
        source, _, name = match[1].partition(".")
        values = figures.get(source, {}).get("values", {})
        if name not in values or not match[0].endswith("<!-- / -->"):
            raise WrongMark(f"{page.name}: a mark must name a figure of docs/figures.json and be "
                            f"closed, not {match[1]!r}")
        command = " ".join(figures[source]["command"].split()[:_PROGRAM])
        if command not in text:
            raise WrongMark(f"{page.name} must name the command of {match[1]}, {command!r}")
        return f"<!-- = {match[1]} -->{shown(values[name])}<!-- / -->"

    made = _MARK.sub(renew, text)
    if len(_OPEN.findall(text)) != len(_MARK.findall(text)):
        raise WrongMark(f"{page.name}: every mark must be closed by <!-- / -->")
    return made


def quoted(root: Path) -> set[str]:
    """Sources that any page quotes."""
    return {match[1].partition(".")[0] for page in pages(root)
            for match in _MARK.finditer(page.read_text(encoding="utf-8"))}


def measured(source: Source) -> Values:
    """Run a source's command; what it prints, by name. ``RuntimeError`` where it fails."""
    words = [*shlex.split(source.command), *source.also]
    words[0] = sys.executable
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RuntimeError(f"{source.command}: exit code {done.returncode}: {''.join(last)}")
    return source.values(done.stdout)


def selected(names: Sequence[str]) -> Iterator[str]:
    """Sources by name, pattern, ``cheap`` or ``all``; ``ValueError`` for one that selects none."""
    for name in names:
        found = [source for source in SOURCES if name == "all" or fnmatchcase(source, name)
                 or (name == "cheap" and SOURCES[source].cheap)]
        if not found:
            families = dict.fromkeys(source.partition("-")[0] for source in SOURCES)
            raise ValueError(f"NAMES must select sources of {', '.join(families)}, or those with "
                             f"'-*' after them, not {name!r}")
        yield from found


def differences(root: Path, figures: Figures) -> Iterator[str]:
    """A line for each page and source that is not as the file has it."""
    for page in pages(root):
        if rewritten(page, figures) != page.read_text(encoding="utf-8"):
            yield f"{page.relative_to(root)} differs from docs/figures.json"
    for name in sorted(set(figures) ^ set(SOURCES)):
        yield f"{name} must be a source and be in docs/figures.json"
    for name in sorted(set(figures) & set(SOURCES)):
        if figures[name]["command"] != SOURCES[name].command:
            yield f"{name} was measured by {figures[name]['command']!r}"
    for name in sorted(set(figures) - quoted(root)):
        yield f"{name} is quoted by no page"


def changed(names: Sequence[str], figures: Figures) -> Iterator[str]:
    """Run sources anew; a line for each value that differs from the file."""
    for name in names:
        now, then = measured(SOURCES[name]), figures.get(name, {}).get("values", {})
        for value in sorted({*now, *then}):
            if now.get(value) != then.get(value):
                yield f"{name}.{value} is {now.get(value)!r}, in the file {then.get(value)!r}"


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = Parser(prog="tools/figures.py", description="Keep the figures of pages current.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", nargs="*", metavar="NAMES",
                      help="write nothing, tell what differs")
    what.add_argument("--renew", nargs="+", metavar="NAMES", help="run these sources anew")
    arguments = parser.parse_args(argv)
    file = root / "docs/figures.json"
    figures: Figures = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    try:
        names = list(dict.fromkeys(selected(arguments.renew or arguments.check or [])))
        if arguments.check is not None:
            told = [*differences(root, figures), *changed(names, figures)]
            for line in told:
                print(f"{line}: run `python tools/figures.py --renew`")
            print(f"figures: {len(figures)} sources, {len(names)} run again, {len(told)} differ")
            return int(bool(told))
        for name in names:
            figures[name] = {"command": SOURCES[name].command, "values": measured(SOURCES[name])}
            # Kept as it comes: the next source may take an hour.
            file.write_text(json.dumps(dict(sorted(figures.items())), indent=1,
                                       ensure_ascii=False) + "\n", encoding="utf-8")
            print(f"{name}: {len(figures[name]['values'])} figures", flush=True)
        texts = {page: rewritten(page, figures) for page in pages(root)}
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    for page, text in texts.items():
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(f"{page.relative_to(root)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
