"""Digest of programs that a result follows from: a result of other programs is made anew."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["digest_of"]

_ROOT = Path(__file__).resolve().parents[2]


@cache
def digest_of(names: Iterable[str]) -> str:
    """Of the files and folders called ``names``, from the root of the sources on, 16 digits;
    comments and docstrings left out."""
    digest = hashlib.sha256()
    paths = [path for name in names for path in sorted(
        (_ROOT / name).rglob("*.py") if (_ROOT / name).is_dir() else [_ROOT / name])]
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(
                    body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                del body[0]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]
