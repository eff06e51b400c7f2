"""Verilog that was generated before is the same text, and only for the same sources."""

from pathlib import Path

import pytest

from gen import cached
from gen.cli import describe_surroundings
from gen.design import Design, Module
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

CONFIG = AcceleratorConfig("posit8", dim=4)


@pytest.fixture
def calls(monkeypatch):
    """Names of the modules that were generated, as a short text each."""
    seen = []

    def write(config, name, surroundings):
        seen.append(" ".join([config.fmt, name, *describe_surroundings(surroundings)]))
        return Design(name, {name: Module(name, f"// {config.fmt} {config.dim} {name}\n", ())})

    monkeypatch.setattr("gen.top.design", write)
    return seen


def test_a_design_is_generated_once_for_each_configuration_and_name(calls, tmp_path):
    for _ in range(2):
        for config in (CONFIG, AcceleratorConfig("fp8", dim=4)):
            for name in ("ottava", "left"):
                made = cached.generated(config, name, folder=tmp_path)
                assert made.text == f"// {config.fmt} 4 {name}\n"
    assert calls == ["posit8 ottava", "posit8 left", "fp8 ottava", "fp8 left"]


def test_and_for_each_surroundings(calls, tmp_path):
    for around in (None, Surroundings(), Surroundings(reset="async")) * 2:
        cached.generated(CONFIG, surroundings=around, folder=tmp_path)
    assert calls == ["posit8 ottava", "posit8 ottava reset=async"]


def test_other_sources_write_anew(calls, tmp_path, monkeypatch):
    cached.generated(CONFIG, folder=tmp_path)
    monkeypatch.setattr(cached, "_sources_digest", lambda: "other")
    cached.generated(CONFIG, folder=tmp_path)
    assert len(calls) == 2 and len(list(tmp_path.glob("*.design"))) == 2


def test_the_digest_is_of_every_source_of_hardware(monkeypatch):
    read = []
    honest = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or honest(path))
    cached._sources_digest.__wrapped__()
    root = Path(cached.__file__).parents[1]
    assert {path.relative_to(root).parts[0] for path in read} == {"hdl", "gen"}
    assert {root / "hdl/top.py", root / "gen/verilog/module.py",
            root / "hdl/spec/formats.py"} <= set(read)
    assert len(read) > 80


def test_the_oldest_texts_go(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "_KEEP", 2)
    for name in ("a", "b", "c"):
        cached.generated(CONFIG, name, folder=tmp_path)
    assert len(list(tmp_path.glob("*.design"))) == 2


def test_the_design_is_that_of_the_generator(tmp_path):
    kept = cached.generated(CONFIG, folder=tmp_path)
    assert cached.generated(CONFIG, folder=tmp_path) == kept == design(CONFIG)
