"""Designs that were generated before: kept by configuration and by the sources that wrote them.

Generating an accelerator takes seconds, and a test run asks for some of them tens of times.
"""

import hashlib
import os
import pickle
from functools import cache
from importlib.metadata import version
from pathlib import Path

from gen.cli.folders import build_folder, locked
from gen.design import Design
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["generated"]

_SOURCES = ("hdl", "gen")
_KEEP = 400  # designs; the oldest go first


@cache
def _sources_digest() -> str:
    """Digest of everything that a text follows from but its configuration."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    digest.update(f"amaranth {version('amaranth')}\0".encode())
    for path in sorted(path for folder in _SOURCES for path in (root / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def generated(config: AcceleratorConfig, name: str = "ottava", *,
              surroundings: Surroundings | None = None, folder: Path | None = None) -> Design:
    """``gen.top.design``, read from ``folder`` where these sources wrote it.

    ``folder``: ``verilog`` in the folder of builds.
    """
    folder = build_folder() / "verilog" if folder is None else folder
    around = sorted((surroundings or Surroundings()).as_dict().items())
    text = f"{sorted(config.as_dict().items())}\0{around}\0{name}\0{_sources_digest()}"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.design"
    if path.exists():
        return pickle.loads(path.read_bytes())
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            from gen.top import design

            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(design(config, name, surroundings=surroundings)))
            part.replace(path)
            _drop_oldest(folder)
    return pickle.loads(path.read_bytes())


def _drop_oldest(folder: Path) -> None:
    texts = sorted(folder.glob("*.design"), key=lambda path: path.stat().st_mtime)
    for path in texts[:-_KEEP]:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
