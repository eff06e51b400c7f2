"""Files of images with wrong bytes: refused in one line, or as good as the sound one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.program.image import ImageError, ProgramImage
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import random_case
from support.properties import examples


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound image and the bytes of its file."""
    case = random_case(AcceleratorConfig("posit8", dim=4), np.random.default_rng(2), largest=6)
    image = ProgramImage(AcceleratorConfig("posit8", dim=4), case.memory, case.address, case.base,
                         case.outputs, tuple(tensor.name for tensor in case.outputs))
    path = tmp_path_factory.mktemp("image") / "sound"
    image.save(path)
    return image, path.read_bytes()


def judged(path, image):
    """Whether the file was refused; what is read must be ``image``."""
    try:
        found = ProgramImage.load(path)
    except ImageError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return True
    assert np.array_equal(found.memory, image.memory)
    assert (found.config, found.address, found.base) == (image.config, image.address, image.base)
    return False


def test_wrong_bytes_of_a_file(sound, tmp_path):
    image, good = sound
    refused, path = [], tmp_path / "wrong"

    @examples(400)
    @given(st.data())
    def run(data):
        wrong = bytearray(good)
        # Most of what can go wrong is told in the first bytes: lengths, names, numbers as text.
        places = st.one_of(st.integers(0, min(len(good), 3000) - 1), st.integers(0, len(good) - 1))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(places)
            kind = data.draw(st.sampled_from(["set", "bit", "cut", "insert", "digit"]))
            if kind == "cut":
                del wrong[at:at + data.draw(st.integers(1, 40))]
            elif kind == "insert":
                wrong[at:at] = data.draw(st.binary(min_size=1, max_size=4))
            elif at < len(wrong):
                wrong[at] = {"set": data.draw(st.integers(0, 255)), "bit": wrong[at] ^ 1,
                             "digit": data.draw(st.sampled_from(b"0123456789-.e{}[]\","))}[kind]
        path.write_bytes(wrong)
        refused.append(judged(path, image) or bytes(wrong) == good)

    run()
    print(f"{len(refused)} files, {sum(refused)} refused")
    assert len(refused) >= 400 and 0.5 * len(refused) < sum(refused)


@pytest.mark.parametrize("content", [
    b"", b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f\0\0\0\0{}", b"[" * 100_000,
    (60_010).to_bytes(8, "little") + b'{"a":' + b"[" * 60_000 + b"     "])
def test_files_that_are_no_image(content, tmp_path):
    path = tmp_path / "none"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        ProgramImage.load(path)
    assert "\n" not in str(caught.value)


def test_metadata_that_nests_without_end_is_refused(sound, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "deep"
    save_file({"memory": sound[0].memory}, path, {"ottava": "[" * 50_000})
    with pytest.raises(ImageError, match="must be a whole program image"):
        ProgramImage.load(path)


def test_an_image_with_one_wrong_byte_of_memory_is_seen(sound, tmp_path):
    # The control of the properties above: a reader that looks at no digest would pass it.
    image, good = sound
    wrong = bytearray(good)
    wrong[-1] ^= 1
    (tmp_path / "wrong").write_bytes(wrong)
    assert judged(tmp_path / "wrong", image)
