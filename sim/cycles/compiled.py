"""Compilation of the model's functions by numba, kept between runs among the products of builds."""

import hashlib
import tempfile
from functools import cache
from pathlib import Path

import numba

from gen.cli.folders import build_folder
from hdl import spec

__all__ = ["compiled", "entry", "kept_folder"]

_SOURCES, _SPEC = Path(__file__).parent, Path(spec.__file__).parent


@cache
def kept_folder(sources: Path = _SOURCES) -> Path | None:
    """Where compiled code is kept, a folder for each content of ``sources``; ``None`` where none
    can be written, then every process compiles anew.

    numba looks at the file of a function itself; what that calls may be in another one, and so may
    the constants that it was compiled with.
    """
    digest = hashlib.sha256()
    for source in (*sorted(_SPEC.glob("*.py")), *sorted(sources.glob("*.py"))):
        text = source.read_bytes()
        if source.parent == _SPEC or b"@compiled" in text:
            digest.update(text)
    root = Path(numba.config.CACHE_DIR or build_folder() / "numba").resolve()
    folder = root / f"cycles-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def compiled(function):
    """``function`` compiled when one that is compiled first calls it; Python cannot call it: the
    wrappers for that are a third of what is to be compiled."""
    return _kept(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def entry(function):
    """``function`` compiled on its first call, from Python: some 15 s for the whole model."""
    return _kept(function, no_cfunc_wrapper=True)


def _kept(function, **options):
    folder = kept_folder()
    if folder is None:
        return numba.njit(**options)(function)
    # The folder is numba's choice for a function when it is decorated, and its own for others.
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before
