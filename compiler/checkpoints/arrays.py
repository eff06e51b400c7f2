"""Arrays of users in ``.npy`` and ``.npz`` files, whose headers are not believed."""

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

__all__ = ["ArrayError", "read_npy", "read_npz"]

_LONGEST_HEADER = 10_000


class ArrayError(ValueError):
    """A file that holds no array that can be taken; the message is one line."""


def read_npy(path: Path) -> np.ndarray:
    """The numbers in a ``.npy`` file; ``ArrayError``. Nothing larger than the file is made."""
    try:
        with path.open("rb") as file:
            return _array(file, path.stat().st_size, str(path))
    except OSError as error:
        raise ArrayError(f"{path} must be a readable .npy file: {error.strerror or error}"
                         ) from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of numbers or texts in a ``.npz`` file, by name; ``ArrayError``."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for entry in archive.infolist():
                # Compressed or not: what a member says that it holds must not be much more.
                if entry.file_size > 1000 * max(entry.compress_size, 1):
                    raise ArrayError(f"{path}: {entry.filename} must not be packed more than "
                                     f"1000 to 1, {entry.file_size} bytes from "
                                     f"{entry.compress_size}")
                with archive.open(entry) as file:
                    found[entry.filename.removesuffix(".npy")] = _array(
                        file, entry.file_size, f"{path}: {entry.filename}")
            return found
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError,
            UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArrayError(f"{path} must be a whole .npz file: {reason}") from error


def _array(file: IO[bytes], size: int, where: str) -> np.ndarray:
    """The array in ``file`` of ``size`` bytes."""
    shape, fortran, dtype = _header(file, where)
    count = 1
    for length in shape:
        count *= length
    needed = count * dtype.itemsize
    if needed > size:
        raise ArrayError(f"{where} must have {needed} bytes of {dtype} for its shape {shape}, but "
                         f"the file has {size}")
    content = file.read(needed)
    if len(content) < needed:
        raise ArrayError(f"{where} must have {needed} bytes of {dtype} for its shape {shape}, but "
                         f"ends after {len(content)}")
    values = np.frombuffer(content, dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError,
            TokenError) as error:
        raise ArrayError(f"{where} must be an array of numpy, version 1 or 2: "
                         f"{' '.join(str(error).split())[:200]}") from error
    if dtype.kind not in "iufbU" or not dtype.itemsize:
        raise ArrayError(f"{where} must hold numbers or texts, not {dtype}")
    if any(isinstance(length, bool) or length < 0 for length in shape):
        raise ArrayError(f"{where} must have sizes from 0 up, not shape {shape}")
    return shape, fortran, dtype
