"""Which part may import which: the arrows between packages, and no circle of folders or files."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A package and the packages that its files may import, its own aside. A file belongs to the most
# specific package whose name starts its own.
LAYERS: dict[str, tuple[str, ...]] = {
    "hdl.spec": (),
    "gen.cli": ("hdl.spec",),
    "sim.model": ("hdl.spec",),
    "hdl": ("hdl.spec",),
    "compiler": ("hdl.spec", "sim.model", "gen.cli"),
    "gen": ("hdl", "hdl.spec", "gen.cli"),
    "sim": ("hdl.spec", "sim.model", "compiler", "gen", "gen.cli"),
    "synth": ("hdl", "hdl.spec", "gen", "gen.cli", "sim", "sim.model", "compiler"),
}
# Inside a package, from the lowest folder up; a folder imports those before it. "" is the
# package's own files.
ORDER: dict[str, tuple[str, ...]] = {
    "hdl": ("spec", "ports", "lib", "codec", "arith", "array", "accumulate", "vector",
            "bus", "load", "feed", "drain", "issue", "host", "core", "top"),
    "compiler": ("checkpoints", "program", "lowering", "training", ""),
    "sim": ("model", "harness", "cycles", "verify", "inference", "campaigns", "bench", ""),
}
MOST_LAYERS = 5


def module_of(path: Path, root: Path = ROOT) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def sources(root: Path = ROOT) -> list[Path]:
    packages = sorted({name.split(".")[0] for name in LAYERS})
    return [path for package in packages for path in sorted((root / package).rglob("*.py"))]


def imports(text: str, module: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """Modules out of ``known`` that the source ``text`` of ``module`` imports, at any depth."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".") if is_package else module.split(".")[:-1]
            start = above[: len(above) - node.level + 1] if node.level else []
            base = ".".join([*start, node.module] if node.module else start)
            # ``from package import x`` imports module x where there is one.
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
                     for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in known)


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    paths = {module_of(path, root): path for path in sources(root)}
    found = {}
    for module, path in paths.items():
        used = set(imports(path.read_text(), module, path.name == "__init__.py", set(paths)))
        found[module] = used - {module}
    return found


def package(module: str) -> str:
    return max((name for name in LAYERS if f"{module}.".startswith(f"{name}.")), key=len)


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """A path that ends where it began, or nothing."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node):], node]
        if node in done:
            return []
        for after in sorted(edges.get(node, ())):
            if found := visit(after, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, []))), [])


def wrong_arrows(edges: Mapping[str, set[str]]) -> list[str]:
    """Imports that no row of ``LAYERS`` or ``ORDER`` allows."""
    found = []
    for module, used in edges.items():
        for other in sorted(used):
            inside, target = package(module), package(other)
            if target != inside and target not in LAYERS[inside]:
                found.append(f"{module} imports {other}")
                continue
            order = ORDER.get(module.split(".")[0])
            if order is None or module.split(".")[0] != other.split(".")[0]:
                continue
            places = [folder(name, order) for name in (module, other)]
            if order.index(places[1]) > order.index(places[0]):
                found.append(f"{module} imports {other}")
    return found


def folder(module: str, order: tuple[str, ...]) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in order else ""


def height_of(edges: Mapping[str, set[str]]) -> int:
    """The longest chain of packages that stand on one another."""
    packages: dict[str, set[str]] = {name: set() for name in LAYERS}
    for module, used in edges.items():
        packages[package(module)] |= {package(other) for other in used} - {package(module)}

    def height(name: str) -> int:
        return 1 + max((height(below) for below in packages[name]), default=0)

    return max(map(height, packages))


@pytest.fixture(scope="module")
def edges():
    found = graph()
    count = sum(map(len, found.values()))
    print(f"{len(found)} files, {count} imports")
    assert len(found) > 200 and count > 500
    return found


def test_arrows_point_one_way(edges):
    assert wrong_arrows(edges) == []


def test_no_file_is_in_a_circle(edges):
    assert circle(edges) == []


def test_no_folder_is_in_a_circle(edges):
    folders: dict[str, set[str]] = {}
    for module, used in edges.items():
        own = parent(module)
        folders.setdefault(own, set()).update({parent(other) for other in used} - {own})
    assert circle(folders) == []


def parent(module: str) -> str:
    """The folder of a module's file, as a package; of a package, itself."""
    path = ROOT / module.replace(".", "/")
    return module if path.is_dir() else module.rpartition(".")[0]


def test_layers_are_few(edges):
    assert height_of(edges) <= MOST_LAYERS


def test_the_model_shares_data_alone(edges):
    model = [module for module in edges if package(module) == "sim.model"]
    assert len(model) > 8
    assert {package(other) for module in model for other in edges[module]} <= {"sim.model",
    "hdl.spec"}


@pytest.mark.parametrize(("module", "other"), [
    ("hdl.core", "sim.model.codec"), ("sim.model.codec", "compiler.program.tensor"),
    ("compiler.program.tensor", "sim.verify.compare"), ("hdl.lib.sram", "hdl.bus.axi"),
    ("gen.top", "synth.area"), ("compiler.checkpoints.parts", "compiler.lowering.lower"),
    ("sim.verify.compare", "sim.bench.runner"), ("gen.cli", "hdl.top"),
])
def test_an_arrow_against_the_order_is_found(edges, module, other):
    spoiled = {name: set(used) for name, used in edges.items()}
    spoiled.setdefault(module, set()).add(other)
    spoiled.setdefault(other, set())
    assert set(wrong_arrows(spoiled)) - set(wrong_arrows(edges)) == {f"{module} imports {other}"}


def test_a_circle_is_found(edges):
    spoiled = {name: set(used) for name, used in edges.items()}
    spoiled["hdl.spec.formats"] = {*spoiled["hdl.spec.formats"], "hdl.spec.config"}
    found = circle(spoiled)
    assert found and found[0] == found[-1]
    assert {"hdl.spec.formats", "hdl.spec.config"} <= set(found)


def test_imports_are_read_in_every_form():
    known = {"a", "a.b", "a.b.c", "a.d"}
    text = "import a.d\nfrom a import b, x\ndef f():\n    from .c import y\nfrom . import c as z\n"
    assert list(imports(text, "a.b", True, known)) == ["a.d", "a.b", "a", "a.b.c", "a.b.c"]
