"""The tests' own tools: what is required, and seeds."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.properties import examples
from support.require import command, module, require
from support.seeds import seed_of
from synth.lint import ToolMissing

TESTS = Path(__file__).parent
OTHER_SKIPS = re.compile(r"pytest\.skip\b|importorskip|mark\.skip|unittest")


def absent():
    raise ToolMissing("a tool is not installed")


@pytest.mark.parametrize("obtain, arguments, line", [
    (absent, (), "a tool is not installed"),
    (command, ("no-such-program",), "no-such-program is not installed"),
    (module, ("no_such_module",), "no_such_module is not installed")])
def test_what_is_missing_is_skipped_and_fails_under_ci(obtain, arguments, line, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=line):
        require(obtain, *arguments)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"required where CI=true: {line}"):
        require(obtain, *arguments)


def test_what_is_there_is_given_and_other_errors_are_errors(monkeypatch):
    assert require(module, "json").loads("1") == 1
    assert require(lambda *values: values, 1, 2) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        require(lambda: 1 // 0)


@pytest.mark.parametrize("ci, outcome", [("", "skipped"), ("true", "failed")])
def test_a_test_that_meets_no_verilator_ends_the_same_way(ci, outcome, pytester, monkeypatch):
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyfile("""
        from sim.harness.verilate import VerilatorMissing

        def test_deep():
            raise VerilatorMissing("Verilator must be installed")
    """)
    pytester.runpytest_inprocess().assert_outcomes(**{outcome: 1})


def test_a_name_that_differs_between_processes_is_refused(pytester):
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("given", [object()], ids=str)
        def test_named(given):
            pass
    """)
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the name of a test must not hold an address: *test_named*"])


def test_no_test_skips_in_another_way():
    files = [path for path in TESTS.rglob("*.py") if path != Path(__file__)]
    assert len(files) > 90
    found = {str(path.relative_to(TESTS)) for path in files
             if OTHER_SKIPS.search(path.read_text())}
    assert found == {"support/require.py"}


def drawn():
    """What a property of this name and text is shown."""
    seen = []

    @examples(200)
    @given(st.integers(0, 10 ** 9), st.text(max_size=5))
    def run(number, text):
        seen.append((number, text))

    run()
    return seen


def test_examples_do_not_follow_from_the_modules_that_are_loaded(tmp_path, monkeypatch):
    before = drawn()
    (tmp_path / "strange_numbers.py").write_text(
        f"NUMBERS = {list(range(777_000, 777_400))}\nWORDS = ['ott', 'ava', 'zwo']\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_module("strange_numbers").NUMBERS
    assert len(before) >= 200 and drawn() == before


def test_seeds_tell_words_of_one_length_apart():
    words = ["ideal", "heavy", "light", "bursty", ("ideal", 1), ("ideal", 11), ("a", "bc"),
             ("ab", "c")]
    seeds = [seed_of(*([word] if isinstance(word, str) else word)) for word in words]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 1 << 64 for seed in seeds)
    assert seeds[0] == 0x3f59_6aa8_ffa8_c8cb
