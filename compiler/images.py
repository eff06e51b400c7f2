"""Images as the patches that a model reads."""

from pathlib import Path

import numpy as np

from compiler.checkpoints.arrays import ArrayError, read_npy
from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.digits import LARGEST_PIXEL, patches

__all__ = ["read_image"]

_DIGITS = "digits-vit"
_SIDE = 8
_MOST_PIXELS = 1 << 26


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


def _grey(path: Path) -> np.ndarray:
    """A picture as 8 × 8 shades, ink as large numbers."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        raise ArrayError(f"{path} needs the package pillow, which is not installed; "
                         ".npy does not") from None
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise ArrayError(f"{path} must have at most {_MOST_PIXELS} pixels, not "
                                 f"{picture.width} × {picture.height}")
            small = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError,
            Image.DecompressionBombError) as error:
        raise ArrayError(f"{path} must be a readable image: {' '.join(str(error).split())}"
                         ) from error
    return np.asarray(small, np.float64) * LARGEST_PIXEL / 255
