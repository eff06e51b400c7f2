"""Build the documentation's site: ``python tools/site.py`` (``make docs``), into build/site.

``--pages`` leaves the docstrings out, most of the time that it takes.

Pages are README, CHANGELOG, CONTRIBUTING, all of docs/ and a page of docstrings for each package
with modules of its own. Sphinx's warnings are errors: a link to nowhere, a page that no list
names, a docstring that cannot be read. Needs the extra ``docs``. Exit code 1 where Sphinx finds
fault.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gen.cli import Parser
from gen.cli.folders import build_folder

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hdl", "gen", "compiler", "sim", "synth")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
# The rest of docs/ follows these, in the order of its names.
GUIDE = ("architecture", "programs", "soc", "integration", "numerics", "models", "transformer",
         "cycles", "support")
GENERATED = ("registers", "commands", "counters")


def modules(package: Path) -> Iterator[Path]:
    """Public modules of one folder. cocotb's benches and what ``python -m`` runs are none."""
    for path in sorted(package.glob("*.py")):
        if not path.stem.startswith("_") and not path.stem.endswith("_tb"):
            yield path


def dotted(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")


def api_page(package: Path) -> str:
    """The page of a package: its docstring and a section for each of its modules."""
    name = dotted(package)
    lines = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}", "```", ""]
    for path in modules(package):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if doc is None:
            raise SystemExit(f"site: {path} must say what it is for")
        lines += [f"## {dotted(path)}", "", "```{eval-rst}", f".. automodule:: {dotted(path)}",
                  "   :members:", "```", ""]
    return "\n".join(lines)


def packages_with_modules() -> list[Path]:
    folders = [path for name in PACKAGES
               for path in (ROOT / name, *sorted((ROOT / name).rglob("*")))]
    return [path for path in folders if path.is_dir() and any(modules(path))]


def toctree(caption: str, names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])


def collect(source: Path, docstrings: bool) -> int:
    """Put all pages where Sphinx looks for them; their number."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source / "docs")
    for name in (*PAGES, "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "examples", source / "examples",
                    ignore=shutil.ignore_patterns("__pycache__"))
    packages = packages_with_modules() if docstrings else []
    (source / "api").mkdir()
    for path in packages:
        (source / "api" / f"{dotted(path)}.md").write_text(api_page(path), encoding="utf-8")
    rest = sorted({path.stem for path in (ROOT / "docs").glob("*.md")} - {*GUIDE, *GENERATED})
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    (source / "index.md").write_text("\n".join([
        "```{include} README.md", "```", "",
        toctree("Guide", [f"docs/{name}" for name in (*GUIDE, *rest)]),
        toctree("Generated", [f"docs/{name}" for name in GENERATED]),
        toctree("Project", [name.removesuffix(".md") for name in PAGES[1:]]),
        toctree("Decisions", [f"docs/decisions/{path.stem}" for path in decisions]),
        toctree("Modules", [f"api/{dotted(path)}" for path in packages])]), encoding="utf-8")
    return sum(1 for _ in source.rglob("*.md"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="tools/site.py", description="Build the documentation's site.")
    parser.add_argument("--pages", action="store_true", help="leave the docstrings out")
    parser.add_argument("-o", "--output", type=Path, default=build_folder() / "site",
                        metavar="FOLDER", help="where the site goes (build/site)")
    arguments = parser.parse_args(argv)
    target = arguments.output.resolve()
    source = target.with_name(target.name + "-source")
    pages = collect(source, not arguments.pages)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html",
         "-c", str(ROOT / "docs"), "-d", f"{target}-trees", str(source), str(target)], cwd=ROOT)
    if done.returncode:
        return 1
    print(f"site: {pages} pages in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
