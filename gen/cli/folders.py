"""Where files go that were not given a place: products of builds, downloads, pages of docs/.

Nothing is kept next to the sources, which may be installed read-only, nor in whatever folder a
command is started from. Products go to ``$OTTAVA_BUILD`` where that is set; else to ``build/`` of
the checkout that the sources are in; else, for an installed package, to the user's cache.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["build_folder", "cache_folder", "checkout", "locked"]

# A file of this project next to the packages: site-packages may hold anybody's pyproject.toml.
_MARK = "tools/constraints.txt"


def checkout() -> Path | None:
    """Root of the checkout that these sources are in, ``None`` where they are installed."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / _MARK).is_file() else None


def cache_folder() -> Path:
    """Where downloads are kept: ``ottava`` in the user's XDG cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ottava"


def build_folder() -> Path:
    """Where products of builds go, an absolute path; nothing makes the folder here."""
    named, root = os.environ.get("OTTAVA_BUILD"), checkout()
    if named:
        return Path(named).resolve()
    if root is not None and os.access(root, os.W_OK):
        return root / "build"
    return cache_folder() / "build"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file ``path``, which is made, against other processes and threads.

    Who makes a product looks inside whether another has made it meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
