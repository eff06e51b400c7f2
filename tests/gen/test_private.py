"""Names that other packages keep to themselves stand in one file a package."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("hdl", "gen", "synth", "compiler", "sim", "tools", "tests", "examples")
HOMES = {"gen/amaranth_private.py", "sim/bench/runner.py", "tests/support/properties.py",
         "tests/sim/harness/test_host.py"}
# Documented: every NamedTuple has the first four, every member of an enum the last.
PUBLIC = {"_replace", "_asdict", "_make", "_fields", "_value_"}


def private(name):
    return name.startswith("_") and not name.endswith("_") and name not in PUBLIC


def trees():
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text())
            for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))}


@pytest.fixture(scope="module")
def every():
    return trees()


@pytest.fixture(scope="module")
def own(every):
    return own_names(every.values())


def own_names(trees):
    """Every private name that some file of the project defines."""
    names = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    names.add(node.attr)
    return names


def foreign(tree, own):
    """Private names that ``tree`` uses and nobody of the project defines."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {part for part in parts if private(part) and part not in own}
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")
                      if private(part)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and private(str(name.value)):
                found |= {name.value} - own
    return found


def test_private_names_stand_in_their_homes(every, own):
    uses = {path: names for path, tree in every.items() if (names := foreign(tree, own))}
    print(f"{len(every)} files, {sum(map(len, uses.values()))} private names of others in {uses}")
    assert set(uses) == HOMES


@pytest.mark.parametrize("text, name", [
    ("component._MustUse__used = True", "_MustUse__used"),
    ("from amaranth.hdl._ir import Design", "_ir"), ("import amaranth.hdl._nir", "_nir"),
    ("from amaranth.hdl import _ast", "_ast"), ("getattr(x, '_pyname')", "_pyname"),
    ("runner._build_command()", "_build_command")])
def test_a_private_name_is_found(text, name, own):
    assert foreign(ast.parse(text), own) == {name}
