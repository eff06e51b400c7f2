"""Pictures and pixels for vision models, as their settings say."""

import json

import numpy as np
import pytest
from PIL import Image

from compiler.checkpoints import load
from compiler.checkpoints.arrays import ArrayError
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.images import read_image
from support.families import stored

PLAIN = {"do_resize": True, "size": {"height": 8, "width": 8}, "resample": 2,
         "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.5]}


@pytest.fixture
def vit(tmp_path):
    folder = stored("vit-classes").write(tmp_path / "vit")
    return folder, load(folder)


def write(folder, width=8, **settings):
    """A picture of random colours, and settings."""
    (folder / "preprocessor_config.json").write_text(json.dumps(PLAIN | settings))
    pixels = np.random.default_rng(2).integers(0, 256, (8, width, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder / "picture.png", pixels


def test_pixels_are_scaled_and_cut_into_patches(vit):
    folder, model = vit
    path, pixels = write(folder)
    scaled = (pixels / 255 - 0.5) / [0.5, 0.25, 0.5]
    found = read_image(str(folder), model, path)
    assert found.shape == (5, 48) and not found[0].any()
    # The patch in the second row and first column, channel by channel.
    wanted = scaled[4:8, 0:4].transpose(2, 0, 1).ravel()
    assert np.allclose(found[3], wanted, atol=1e-5)
    np.save(folder / "pixels.npy", scaled.transpose(2, 0, 1))
    assert np.allclose(read_image(str(folder), model, folder / "pixels.npy"), found, atol=1e-5)


def test_a_wide_picture_is_cut_to_its_middle_or_squeezed(vit):
    folder, model = vit
    path, pixels = write(folder, 20, do_center_crop=True, size={"shortest_edge": 8})
    scaled = ((pixels / 255 - 0.5) / [0.5, 0.25, 0.5]).transpose(2, 0, 1)
    wanted = model.embedding.of_image(scaled[:, :, 6:14])
    assert np.allclose(read_image(str(folder), model, path), wanted, atol=1e-5)
    path, _ = write(folder, 20, size=8, do_normalize=False)
    squeezed = np.asarray(Image.open(path).resize((8, 8), 2)).transpose(2, 0, 1) / 255
    wanted = model.embedding.of_image(squeezed)
    assert np.allclose(read_image(str(folder), model, path), wanted, atol=1e-5)


@pytest.mark.parametrize("settings, message", [
    ({"image_std": [0.5, 0, 0.5]}, "image_std must be 3 numbers above 0"),
    ({"size": 0}, "size must be a whole number of at least 1"),
    ({"size": "8"}, "size must be a whole number of at least 1"),
    ({"size": 100_000}, "size must be of at most 67108864 pixels, not 100000"),
    ({"size": {"shortest_edge": 1 << 20}}, "size must be of at most 67108864 pixels"),
    ({"size": {"width": 1 << 20, "height": 1 << 20}}, "size must be of at most 67108864 pixels"),
    ({"image_mean": [0.5]}, "image_mean must be 3 numbers, not"),
    ({"resample": 9}, "resample must be from 0 to 5, not 9"),
    ({"size": {"height": 8, "width": 4}}, "pixels must be 3 channels of 4 patches of 4 × 4, not"),
    ({"size": {"height": 0, "width": 8}}, "height must be a whole number of at least 1"),
])
def test_wrong_settings_are_one_line(vit, settings, message):
    folder, model = vit
    path, _ = write(folder, **settings)
    with pytest.raises((ArrayError, CheckpointError), match=message) as error:
        read_image(str(folder), model, path)
    assert "\n" not in str(error.value)


def test_without_settings_and_wrong_pixels_are_one_line(vit):
    folder, model = vit
    path, _ = write(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ArrayError, match=r"takes .*preprocessor_config.json, which says how"):
        read_image(str(folder), model, path)
    for shape in ((8, 8), (3, 8, 4), (3, 9, 8), (1, 8, 8)):
        np.save(folder / "pixels.npy", np.zeros(shape))
        with pytest.raises(ArrayError, match="pixels must be 3 channels of 4 patches of 4 × 4"):
            read_image(str(folder), model, folder / "pixels.npy")
    (folder / "picture.png").write_bytes(b"PNG")
    write(folder)[0].write_bytes(b"PNG")
    with pytest.raises(ArrayError, match="must be a readable image"):
        read_image(str(folder), model, folder / "picture.png")
