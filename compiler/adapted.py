"""Adapters merged into a model for inference: ``with_adapters``."""

from pathlib import Path

import numpy as np

from compiler.checkpoints.description import Transformer
from compiler.checkpoints.loader import load_folder
from hdl.spec.config import AcceleratorConfig

__all__ = ["with_adapters"]


def with_adapters(name: str, model: Transformer, path: Path, config: AcceleratorConfig | None
                  ) -> Transformer:
    """``model``, called ``name`` or in the folder ``name``, with the adapters in ``path``.

    Those of a kind that this project trains, of a model that it trains, are merged as training
    merges them for ``config``, so that inference has the bits of its forward pass, or in fp32
    (``None``, and integers, which do not train: their codes are found later, row by row). Others,
    of peft, are merged in fp32 into the folder's tensors (``compiler.checkpoints.adapted``): a
    model that is not trained may hold these in another order or scale. ``ValueError`` in one line
    for adapters of neither.
    """
    from compiler.training.adapters import load_adapters, merge, written_here
    from compiler.training.gradients.eight_bit import EightBit  # imports numba
    from compiler.training.gradients.numerics import Exact
    from compiler.training.gradients.trainable import check_trainable

    try:
        check_trainable(model)
        adapters = load_adapters(path, model)
    except ValueError:
        # What was written here has a head that peft's tensors do not show: never merged without it.
        if not path.is_dir() or not (Path(name) / "config.json").exists() or written_here(path):
            raise
        return load_folder(Path(name), adapter=path)
    if config is None or config.format.integer:
        return merge(model, adapters, Exact(np.float32))
    return merge(model, adapters, EightBit(config))
