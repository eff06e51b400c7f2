import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.checkpoints.arrays import ArrayError, read_npy, read_npz
from support.properties import examples

ARRAYS = {"ids": np.arange(12).reshape(3, 4), "columns": np.asfortranarray(np.ones((3, 2), "<f4")),
          "none": np.zeros((0, 3)), "one": np.array(5), "texts": np.array(["a", "ünd"]),
          "flags": np.array([True, False]), "big": np.arange(3, dtype=">i4")}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_numpy_writes_is_read(name, tmp_path):
    np.save(tmp_path / "x.npy", ARRAYS[name])
    np.savez(tmp_path / "x.npz", **ARRAYS)
    np.savez_compressed(tmp_path / "y.npz", **ARRAYS)
    for found in (read_npy(tmp_path / "x.npy"), read_npz(tmp_path / "x.npz")[name],
                  read_npz(tmp_path / "y.npz")[name]):
        assert np.array_equal(found, ARRAYS[name]) and found.dtype == ARRAYS[name].dtype


def with_header(text, content=b"\0" * 64):
    header = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + content


def lie(shape="(4,)", descr="'<f8'"):
    return with_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


@pytest.mark.parametrize("content, message", [
    (b"", "array of numpy"), (b"\x93NUMPY", "array of numpy"), (b"\x93NUMPY\3\0", "array of numpy"),
    (lie("(1000000000000,)"), "must have 8000000000000 bytes of float64"),
    (lie("(9,)"), "must have 72 bytes"), (lie("(-1,)"), "from 0 up, not shape"),
    (lie("(4,", ), "array of numpy"), (lie(descr="'|O'"), "numbers or texts, not object"),
    (lie(descr="[('a', '<f8')]"), "numbers or texts"),
    (with_header("{" * 1000), "array of numpy"),
    (with_header("(" * 60000), "array of numpy"), (lie("(True,)"), "from 0 up|array of numpy"),
    (with_header("{'shape': (4,)}"), "array of numpy"),
    (lie("(1.5,)"), "array of numpy"), (lie("(4,)" + " " * 20000), "array of numpy"),
    (lie(descr="'<U100000000'"), "must have 1600000000 bytes"),
    (lie(descr="'<U1000000000'"), "array of numpy"), (lie(descr="'<U0'"), "numbers or texts")])
def test_damage_is_one_line(content, message, tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ArrayError, match=message) as caught:
        read_npy(path)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ArrayError, match=message):
        read_npz(tmp_path / "x.npz")


def test_files_that_are_none(tmp_path):
    for read in (read_npy, read_npz):
        for path in (tmp_path / "nothing", tmp_path):
            with pytest.raises(ArrayError, match="must be a"):
                read(path)
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(ArrayError, match="whole .npz file"):
        read_npz(tmp_path / "x.npz")


def test_a_stream_or_a_name_that_cannot_be(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(1).normal(size=1000))
    content = bytearray(path.read_bytes())
    content[80:180] = b"\xff" * 100
    path.write_bytes(content)
    with pytest.raises(ArrayError, match="whole .npz file: .* while decompressing"):
        read_npz(path)
    np.savez(path, ü=np.ones(3))
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    with pytest.raises(ArrayError, match="whole .npz file: .* decode byte 0xff"):
        read_npz(path)


def test_an_archive_that_grows_out_of_proportion(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", with_header(
            "{'descr': '|u1', 'fortran_order': False, 'shape': (50000000,)}", bytes(50_000_000)))
    with pytest.raises(ArrayError, match="packed more than 1000 to 1"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_bytes_are_read_or_refused(tmp_path, save):
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)
    sound, path, read = buffer.getvalue(), tmp_path / "x.npz", []

    @examples(200)
    @given(st.lists(st.tuples(st.integers(0, len(sound) - 1), st.integers(0, 255)), max_size=4),
           st.integers(0, len(sound)))
    def run(changes, length):
        content = bytearray(sound)
        for place, value in changes:
            content[place] = value
        path.write_bytes(content[:length] if length % 3 == 0 else content)
        try:
            read_npz(path)
            read.append(True)
        except ArrayError as error:
            assert "\n" not in str(error)
            read.append(False)

    run()
    print(f"{len(read)} files, {sum(read)} read")
    assert 5 < sum(read) < len(read)
