"""Pictures as the pixels that a vision model was trained on, by ``preprocessor_config.json``."""

from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.checkpoints.arrays import ArrayError
from compiler.checkpoints.description import Patches
from compiler.checkpoints.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["open_picture", "picture"]

_MOST_PIXELS = 1 << 26
_FILE = "preprocessor_config.json"
_FILTERS = range(6)  # Pillow's numbers, which the settings hold


def open_picture(path: Path, mode: str) -> "Image":
    """The picture in ``path`` as Pillow has it, in ``mode``; ``ArrayError``."""
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
            return picture.convert(mode)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError,
            Image.DecompressionBombError) as error:
        if isinstance(error, ArrayError):
            raise
        raise ArrayError(f"{path} must be a readable image: {' '.join(str(error).split())}"
                         ) from error


def picture(folder: Path, embedding: Patches, path: Path) -> np.ndarray:
    """Channels × side × side numbers of the picture in ``path`` for the checkpoint in ``folder``:
    resized, cut to the middle, scaled and centred as its settings say. ``ArrayError``, and
    ``CheckpointError`` for the settings."""
    file = folder / _FILE
    if not file.exists():
        raise ArrayError(f"{path} takes {file}, which says how pictures are scaled; pixels as .npy "
                         "take none")
    settings = Settings.from_json(file)
    channels = embedding.projection.weight.shape[1] // embedding.side ** 2
    side = isqrt(len(embedding.positions) - embedding.lead) * embedding.side
    image = open_picture(path, "RGB" if channels == 3 else "L")
    if settings.flag("do_resize", True):
        image = image.resize(_size(settings, image, side), _filter(settings))
    if settings.flag("do_center_crop", False):
        image = _middle(image, side)
    pixels = np.asarray(image, np.float32).reshape(image.height, image.width, channels)
    if settings.flag("do_rescale", True):
        pixels = pixels * settings.positive("rescale_factor", 1 / 255)
    if settings.flag("do_normalize", True):
        mean, spread = (_numbers(settings, name, channels) for name in ("image_mean", "image_std"))
        pixels = (pixels - mean) / spread
    return pixels.transpose(2, 0, 1)


def _filter(settings: Settings) -> Any:
    value = settings.whole("resample", 2)
    if value not in _FILTERS:
        raise settings.refuse("resample", f"from 0 to {_FILTERS[-1]}")
    return value


def _size(settings: Settings, image: "Image", side: int) -> tuple[int, int]:
    """Width and height to resize to: given, or of the shorter side, or the model's own."""
    size = settings.get("size")
    if size is not None and not isinstance(size, dict):
        width = height = settings.count("size")
        return _bounded(settings, width, height)
    own = Settings(size if isinstance(size, dict) else {}, f"{settings.where}: size")
    if own.get("shortest_edge") is None:
        return _bounded(settings, own.count("width", side), own.count("height", side))
    edge = own.count("shortest_edge")
    short, long = sorted(image.size)
    other = int(edge * long / short)
    return _bounded(settings, *((edge, other) if image.width <= image.height else (other, edge)))


def _bounded(settings: Settings, width: int, height: int) -> tuple[int, int]:
    if width * height > _MOST_PIXELS:
        raise settings.refuse("size", f"of at most {_MOST_PIXELS} pixels")
    return width, height


def _middle(image: "Image", side: int) -> "Image":
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _numbers(settings: Settings, name: str, count: int) -> np.ndarray:
    values = settings.get(name)
    if not isinstance(values, list) or len(values) != count or not all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values) or (
            name == "image_std" and min(values) <= 0):
        raise settings.refuse(name, f"{count} numbers"
                              + (" above 0" if name == "image_std" else ""))
    return np.array(values, np.float32)
