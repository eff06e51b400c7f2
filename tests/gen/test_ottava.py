"""One command for all: it finds every module, adds nothing to what they print and return."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gen.ottava
from gen import __version__
from gen.ottava import COMMANDS, Command, main

ROOT = Path(__file__).resolve().parents[2]
# Written by hand once: the cells' file, and this command itself.
APART = {"synth.cells", "gen.ottava"}


def ottava(*arguments, code=0):
    done = subprocess.run([sys.executable, "-m", "gen.ottava", *arguments], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def runnable():
    """Every module of the packages that ``python -m`` runs."""
    for path in sorted(file for root in ("gen", "compiler", "sim", "synth")
                       for file in (ROOT / root).rglob("*.py")):
        if '__name__ == "__main__"' in path.read_text():
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            yield name.removesuffix(".__main__")


def test_every_module_that_runs_is_a_command():
    assert sorted(item.module for item in COMMANDS.values()) == sorted(set(runnable()) - APART)


def test_help_has_a_line_a_command():
    lines = ottava("--help")[0].splitlines()
    for name, command in COMMANDS.items():
        assert sum(bool(re.match(rf"  {name} +{re.escape(command.does)}$", line))
                   for line in lines) == 1
    assert max(map(len, lines)) <= 100
    assert ottava() == ottava("-h") == ottava("--help")


def test_version():
    assert ottava("--version") == (f"ottava {__version__}\n", "")


@pytest.mark.parametrize("arguments, code", [
    (["block", "decoder", "--fmt", "posit8"], 0), (["block", "frob"], 2),
    (["top", "--dim", "3"], 2)])
def test_a_command_is_its_module(arguments, code):
    name, *rest = arguments
    done = subprocess.run([sys.executable, "-m", COMMANDS[name].module, *rest], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == code
    assert ottava(*arguments, code=code) == (done.stdout, done.stderr)


def test_no_such_command_is_one_line():
    error = ottava("frob", code=2)[1]
    assert error.startswith("ottava: error: COMMAND must be one of top, ")
    assert error.endswith(", not 'frob'\n") and error.count("\n") == 1


@pytest.fixture
def trial(monkeypatch, tmp_path):
    """A function that runs a module of the text given as the command ``trial``."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ottava"])
    monkeypatch.setitem(gen.ottava.COMMANDS, "trial", Command("ottava_trial", "", "sim"))

    def run(text):
        (tmp_path / "ottava_trial.py").write_text(text)
        return main(["trial", "--option", "1"])

    return run


def test_the_module_gets_its_arguments_and_gives_its_code(trial, capsys):
    with pytest.raises(SystemExit) as stopped:
        trial("import sys; print(sys.argv[1:], __name__); sys.exit(1)")
    assert stopped.value.code == 1
    assert capsys.readouterr().out == "['--option', '1'] __main__\n"


def test_a_missing_package_is_one_line_that_says_how_to_get_it(trial, capsys):
    with pytest.raises(SystemExit) as stopped:
        trial("import ottava_absent.part")
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error == ("ottava: error: trial needs the package 'ottava_absent', which is not "
                     "installed: pip install 'ottava[sim]'\n")


def test_a_missing_module_of_ours_is_no_missing_package(trial):
    with pytest.raises(ModuleNotFoundError, match="hdl.absent"):
        trial("import hdl.absent")
