"""Small vision transformers of this project's own, trained by ``tools.train.train_digits``.

They read handwritten digits of 8 × 8 pixels as 16 patches of 2 × 2: 2 layers, width 32, 2 heads,
feed-forward 128, pre-norm, mean pooling. One has softmax, LayerNorm and GELU, the other polynomial
attention, L1 norms and ReLU. The images come with scikit-learn; they are fetched
for training and measuring only, a few drawn for this project are enough to run it.
"""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.packages import DIGITS
from compiler.checkpoints.trained import Shape, Weights, layers, linear, norm, read_weights

__all__ = ["CLASSES", "DRAWN", "HELD_OUT", "INTEGER", "INTEGER_WEIGHTS", "PATCHES", "PATCH_SIZE",
           "SOFTMAX", "WEIGHTS", "describe", "images", "load_digits", "load_integer", "patches"]

WEIGHTS = Path(__file__).with_name("digits_vit.npz")
INTEGER_WEIGHTS = Path(__file__).with_name("digits_integer.safetensors")
SOFTMAX = Shape(layers=2, width=32, heads=2, hidden=128, eps=1e-6)
INTEGER = replace(SOFTMAX, degree=2)
CLASSES = 10
PATCHES, PATCH_SIZE = 16, 4
HELD_OUT = 450
LARGEST_PIXEL = 16

# Digits drawn for this project, one letter per pixel: ' ' is 0, '+' half ink, '#' all of it.
_GLYPHS = {
    0: "  +##+  | +#++#+ | #+  +# | #    # | #    # | #+  +# | +#++#+ |  +##+  ",
    1: "   +#+  |  +##+  | +###+  |   ##+  |   ##+  |   ##+  |   ##+  |  +##+  ",
    2: "  +##+  | +#++#+ | ++  #+ |    +#+ |   +#+  |  +#+   | +##++++| +######",
    3: " +###+  | ++ +#+ |    +#+ |  +##+  |   ++#+ |     #+ | ++ +#+ | +###+  ",
    4: "    +#  |   +#+  |  +#+   | +#+ ++ | #+ +#+ | ###### |   +#+  |   +#   ",
    5: " +####+ | +#+    | +#     | +###+  |   ++#+ |     #+ | ++ +#+ | +###+  ",
    6: "   ##   |  ##    | +#     | ##     | ####+  | ## +#+ | +#++#+ |  +##+  ",
    7: " +####+ | ++++#+ |    +#  |  ++##+ | +####+ |  +#+   |  +#    |  ##    ",
    8: "  +##+  | +#++#+ | +#++#+ |  +##+  |  +##+  | +#++#+ | +#++#+ |  +##+  ",
    9: "  +##+  | +#++#+ | #+  ## | +#++## |  +###+ |     #+ | ++ +#+ | +###+  ",
}
DRAWN = {digit: np.array([[" +#".index(pixel) * LARGEST_PIXEL // 2 for pixel in row]
                          for row in glyph.split("|")]) for digit, glyph in _GLYPHS.items()}


def images(cache: Path | None = None, offline: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images, … × 8 × 8 with pixels from 0 to 16, and their digits, shuffled.

    The last ``HELD_OUT`` are not for training. Raises ``ModelUnavailable``.
    """
    folder = DIGITS.unpack(cache, offline)
    with gzip.open(folder / DIGITS.members[0], "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64]


def patches(image: np.ndarray) -> np.ndarray:
    """… × 8 × 8 pixels to … × 16 patches of 2 × 2 flattened, values from 0 to 1, fp32."""
    cut = np.asarray(image, np.float32).reshape(*image.shape[:-2], 4, 2, 4, 2)
    return cut.swapaxes(-2, -3).reshape(*image.shape[:-2], PATCHES, PATCH_SIZE) / LARGEST_PIXEL


def describe(weights: Weights, name: str, shape: Shape) -> Transformer:
    """The transformer that the weights of training make."""
    return Transformer(name, Patches(linear(weights, "patch"), weights["positions"]),
                       layers(weights, shape), norm(weights, "final_norm", shape),
                       linear(weights, "head"), "mean")


def load_digits() -> Transformer:
    """The committed model; its 16 inputs are ``patches`` of an image."""
    with np.load(WEIGHTS) as file:
        return describe({name: file[name].astype(np.float32) for name in file.files},
                        "digits-vit", SOFTMAX)


def load_integer() -> Transformer:
    """The other one."""
    weights, metadata = read_weights(INTEGER_WEIGHTS)
    return describe(weights, "digits-integer", replace(INTEGER, degree=int(metadata["degree"])))
