"""Set-up with stand-ins of pip and uv: where packages are taken from, and what takes uv's place."""

import pytest

from tools import setup

_PIP = """#!/bin/sh
case "$*" in
*"config list"*) cat {folder}/told;;
*) echo "pip $*" >> {folder}/calls;;
esac
case "$*" in {refused}) exit 1;; esac
"""
_UV = """#!/bin/sh
echo "uv $SSL_CERT_FILE $*" >> {folder}/calls
{end}
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Installs with stand-ins, and gives the lines of what was called."""
    monkeypatch.setattr(setup, "BIN", tmp_path)

    def install(told="", refused="nothing", end=""):
        (tmp_path / "told").write_text(told)
        setup.write_command("python", _PIP.format(folder=tmp_path, refused=refused))
        setup.write_command("uv", _UV.format(folder=tmp_path, end=end))
        setup.install_python_packages()
        return (tmp_path / "calls").read_text().splitlines()

    return install


def test_uv_takes_packages_from_where_pip_is_told_to(calls):
    told = ("global.index-url='https://one'\nglobal.extra-index-url='file:///a\\nfile:///b'\n"
            "install.index-url='https://two'\nfreeze.index-url='https://never'\n"
            ":env:.find-links='/wheels'\nglobal.find-links='/other'\n:env:.cert='/ca.crt'\n")
    bootstrap, install = calls(told)
    assert bootstrap.endswith(" uv") and bootstrap.startswith("pip ")
    assert install.startswith("uv /ca.crt pip install ")
    assert ("--default-index https://two --index file:///a --index file:///b --find-links /wheels "
            "--editable .[all]") in install
    assert "--compile-bytecode" in install and "never" not in install and "other" not in install
    assert "--no-index" not in install
    assert "--find-links /wheels --no-index --editable" in calls(
        ":env:.find-links='/wheels'\nglobal.no-index='true'\n")[-1]


@pytest.mark.parametrize("how, reason", [
    ({"refused": '*" uv"'}, "pip install failed for uv"),
    ({"end": "echo no such package >&2; exit 1"}, "no such package")])
def test_pip_takes_the_place_of_uv(calls, capsys, how, reason):
    *_, last = calls(**how)
    assert last.startswith("pip ") and last.endswith("--editable .[all]")
    said = capsys.readouterr().out
    assert said.startswith("setup: without uv") and reason in said and said.count("\n") == 1


def test_without_either_the_set_up_fails(calls):
    with pytest.raises(setup.Unavailable, match="pip install failed for .*all"):
        calls(refused='*"[all]"', end="exit 1")
