"""Compilation of the model's functions by numba, kept between runs beside the sources."""

import hashlib
from pathlib import Path

import numba

from hdl.spec import commands

__all__ = ["compiled", "drop_stale"]

_FOLDER = Path(__file__).parent


def drop_stale() -> None:
    """Forget what was compiled from other sources.

    numba looks at the file of the function itself; what that calls may be in another one.
    """
    sources = [Path(commands.__file__), *sorted(_FOLDER.glob("*.py"))]
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sources:
        text = source.read_bytes()
        if source.parent != _FOLDER or b"@compiled" in text:
            digest.update(text)
    kept = _FOLDER / "__pycache__"
    mark = kept / "sources.sha256"
    if mark.exists() and mark.read_text() == digest.hexdigest():
        return
    for path in kept.glob("*.nb[ic]"):
        path.unlink(missing_ok=True)
    kept.mkdir(exist_ok=True)
    mark.write_text(digest.hexdigest())


def compiled(function):
    """``function`` compiled on its first call, some seconds for the whole model."""
    return numba.njit(cache=True)(function)
