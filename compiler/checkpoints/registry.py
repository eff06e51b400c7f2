"""One place that knows every model by name, and a checkpoint of one's own by its path."""

from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.checkpoints import characters, digits
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.gguf_file import open_gguf
from compiler.checkpoints.loader import load_folder
from compiler.checkpoints.packages import (
    BERT_TINY,
    MINILM,
    MINILM_INT8,
    PARAPHRASE_MINILM,
    SMOLLM2,
    Package,
)
from compiler.checkpoints.settings import read_json, shown
from compiler.checkpoints.text import TEXT
from compiler.checkpoints.vocabulary import encode, from_folder, from_gguf

if TYPE_CHECKING:  # imported where it is used: the project's own models need no tokenizers
    from tokenizers import Tokenizer

__all__ = ["DIGITS_MODELS", "NAMES", "any_tokenizer", "end_tokens", "load", "model_inputs",
           "tokenizer"]

_PACKAGES: dict[str, Package] = {
    "minilm": MINILM, "bert-tiny": BERT_TINY, "smollm2": SMOLLM2, "minilm-int8": MINILM_INT8,
    "paraphrase-minilm": PARAPHRASE_MINILM}
# Packages without a tokenizer, and whose words theirs are.
_SPOKEN = dict.fromkeys(("minilm-int8", "paraphrase-minilm"), "minilm")
_DIGITS = {"digits-vit": digits.load_digits, "digits-integer": digits.load_integer}
DIGITS_MODELS = tuple(_DIGITS)
_CHARACTERS = "char-integer"
_OWN = {**_DIGITS, _CHARACTERS: characters.load_characters}
NAMES = (*_PACKAGES, *_OWN)
_GRAPHS = ("model.onnx", "onnx/model.onnx")
_WORDS = "tokenizer.json"


def load(name: str | Path, cache: Path | None = None, offline: bool = False) -> Transformer:
    """The model of that name (``NAMES``), or the checkpoint at that path.

    A path is a folder with ``config.json`` and ``model.safetensors``, one such safetensors file,
    a GGUF or an ONNX file, or a folder with ``model.onnx`` alone. ``cache`` and
    ``offline`` as for ``Package.fetch``. Raises ``CheckpointError``, a ``ValueError``, for what
    is damaged or not supported, ``ModelUnavailable`` without network.
    """
    if name in _OWN:
        return _OWN[str(name)]()
    path = _locate(name, cache, offline)
    title = str(name) if name in NAMES else None
    if path.suffix == ".gguf":
        from compiler.checkpoints.gguf_models import load_gguf

        return load_gguf(path, title)
    graph = _graph(path)
    if graph is not None:
        # A plug-in, as families are: its files stand on those of this folder, none on them.
        return import_module("compiler.checkpoints.onnx.models").load_onnx(
            graph, title or path.stem)
    # The models of a name are what is measured here: encoders, without the heads of training.
    model = load_folder(path, title, heads=title is None)
    beside = (path if path.is_dir() else path.parent) / "adapter_config.json"
    if not beside.exists():
        return model
    return replace(model, notes=(*model.notes, f"{beside} lies beside the model: its adapters are "
                                 "merged by --adapter alone"))


def model_inputs(name: str | Path, tokens: int, text: str = TEXT, cache: Path | None = None,
                 offline: bool = False) -> np.ndarray:
    """What the model ``name``, as for ``load``, reads: the first ``tokens`` token ids of ``text``.

    The text starts over at its end. Models of digits read the 16 patches of a drawn digit instead.
    Raises as ``load`` does, ``ValueError`` for a number of tokens that cannot be.
    """
    if name in _DIGITS:
        if tokens != digits.PATCHES:
            raise ValueError(f"tokens of {name} must be {digits.PATCHES}, not {tokens!r}")
        return digits.patches(digits.DRAWN[3])
    return encode(tokenizer(name, cache, offline), tokens, text)


def tokenizer(name: str | Path, cache: Path | None = None, offline: bool = False) -> "Tokenizer":
    """The tokenizer that comes with the model ``name``, as for ``load``; raises as that does,
    ``CheckpointError`` for models of digits, which read no text."""
    if name in _DIGITS:
        raise CheckpointError(f"{name} reads images, not text")
    if name == _CHARACTERS:
        return characters.tokenizer()
    path = _locate(_SPOKEN.get(str(name), name), cache, offline)
    if path.suffix == ".gguf":
        return from_gguf(open_gguf(path))
    return from_folder(_beside(path))


def any_tokenizer(name: str | Path, offline: bool = False) -> "Tokenizer | None":
    """``tokenizer``; of a model without one, whose ids are read, ``None``."""
    try:
        return tokenizer(name, offline=offline)
    except CheckpointError:
        return None


def end_tokens(name: str | Path, cache: Path | None = None, offline: bool = False) -> set[int]:
    """The tokens that end a text of the model ``name``, as its files say; none where they do not.
    Raises as ``load`` does."""
    if name in _OWN or (name not in NAMES and not Path(name).exists()):
        return set()
    path = _locate(name, cache, offline)
    if path.suffix == ".gguf":
        return _token_numbers(open_gguf(path).get("tokenizer.ggml.eos_token_id"), path)
    folder = _beside(path)
    found: set[int] = set()
    for file in ("generation_config.json", "config.json"):
        if (folder / file).exists():
            found |= _token_numbers(read_json(folder / file, dict).get("eos_token_id"),
                                    folder / file)
    return found


def _token_numbers(value: object, where: Path) -> set[int]:
    """One token, several or none."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, int) or one < 0:
            raise CheckpointError(f"{where}: eos_token_id must be the number of a token or a list "
                                  f"of them, not {shown(one)}")
    return set(values)


@lru_cache(maxsize=8)
def _unpacked(package: Package, cache: Path | None, offline: bool) -> Path:
    """The package's folder, verified once a process: a digest of 90 MB takes its time."""
    return package.unpack(cache, offline)


def _locate(name: str | Path, cache: Path | None, offline: bool) -> Path:
    """The folder or file of the checkpoint."""
    if name in _PACKAGES:
        package = _PACKAGES[str(name)]
        folder = _unpacked(package, cache, offline)
        # A package of one file is that file, others are the folder that holds them.
        return folder / package.members[0] if len(package.members) == 1 else folder
    path = Path(name)
    if not path.exists():
        raise CheckpointError(f"model must be one of {', '.join(NAMES)} or the path of a "
                              f"checkpoint, not {str(name)!r}")
    if path.is_file() and path.suffix not in (".gguf", ".onnx", ".safetensors"):
        raise CheckpointError(f"a checkpoint must be a folder, a .safetensors, .gguf or .onnx "
                              f"file, not {str(name)!r}")
    return path


def _graph(path: Path) -> Path | None:
    """The ONNX file that ``path`` is, or that its folder holds and no other tensors."""
    if path.suffix == ".onnx" and path.is_file():
        return path
    found = [path / name for name in _GRAPHS if (path / name).exists()]
    others = any(path.glob("*.safetensors*")) or any(path.glob("*.bin*"))
    return found[0] if found and not others else None


def _beside(path: Path) -> Path:
    """The folder where settings and words of the checkpoint lie, as exporters lay them out."""
    folder = path if path.is_dir() else path.parent
    above = folder.parent
    if folder.name == "onnx" and not (folder / _WORDS).exists() and (above / _WORDS).exists():
        return above
    return folder
