"""Images as the patches that a model reads."""

from pathlib import Path

import numpy as np

from compiler.checkpoints.arrays import ArrayError, read_npy
from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.digits import LARGEST_PIXEL, patches
from compiler.pictures import open_picture, picture

__all__ = ["read_image"]

_DIGITS = "digits-vit"
_SIDE = 8


def read_image(name: str, model: Transformer, path: Path) -> np.ndarray:
    """The patches of the image in ``path`` for the model called ``name``; ``ArrayError``.

    ``.npy``: pixels as the model has them, or its patches. Other files are read by Pillow.
    """
    if not isinstance(model.embedding, Patches):
        raise ArrayError(f"{model.name} reads text, not images")
    items = model.embedding.projection.weight.shape[1]
    if path.suffix == ".npy":
        pixels = np.asarray(read_npy(path))
        if pixels.dtype.kind not in "iuf":
            raise ArrayError(f"{path} must hold numbers, not {pixels.dtype}")
        if pixels.shape == (len(model.embedding.positions), items):
            return _finite(pixels, path)
    elif name == _DIGITS:
        pixels = _grey(path)
    elif model.embedding.side:
        folder = Path(name)
        pixels = picture(folder if folder.is_dir() else folder.parent, model.embedding, path)
    if model.embedding.side:
        return _cut(model.embedding, pixels, path)
    if name != _DIGITS:
        raise ArrayError(f"{path} must be .npy with {len(model.embedding.positions)} × {items} "
                         f"patches for {model.name}")
    if pixels.shape != (_SIDE, _SIDE) or not 0 <= pixels.min() <= pixels.max() <= LARGEST_PIXEL:
        raise ArrayError(f"{path} must hold {_SIDE} × {_SIDE} pixels from 0 to {LARGEST_PIXEL}, or "
                         f"{len(model.embedding.positions)} × {items} patches, not "
                         f"{' × '.join(map(str, pixels.shape))}")
    return patches(pixels)


def _finite(values: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ArrayError(f"{path} must hold finite numbers")
    return values.astype(np.float64)


def _cut(embedding: Patches, pixels: np.ndarray, path: Path) -> np.ndarray:
    """Pixels, channels × height × width, as patches."""
    try:
        return embedding.of_image(_finite(pixels, path))
    except ValueError as error:
        raise ArrayError(f"{path}: {error}") from error


def _grey(path: Path) -> np.ndarray:
    """A picture as 8 × 8 shades, ink as large numbers."""
    shades = open_picture(path, "L")
    from PIL import Image  # there, or the line above has refused

    small = shades.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float64) * LARGEST_PIXEL / 255
