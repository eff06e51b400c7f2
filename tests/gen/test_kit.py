"""The kit of command lines: types of values, options of builds and models, files whole or not."""

import os
from dataclasses import fields

import pytest

from gen.cli import (
    Parser,
    add_config_flags,
    add_model_flags,
    add_names,
    changed_config,
    config_from,
    deliver,
    integer,
    real,
    save,
    writable,
)
from gen.cli.model import layers
from hdl.spec.config import AcceleratorConfig, options
from hdl.spec.formats import FORMATS


def parser(**usual):
    made = Parser(prog="tool")
    add_config_flags(made, **usual)
    return made


def refused(capsys, call):
    with pytest.raises(SystemExit) as stopped:
        call()
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    return said.err.removeprefix("tool: error: ").rstrip("\n")


def test_every_value_of_a_configuration_has_an_option_that_says_what_it_is():
    assert [option.name for option in options()] == [f.name for f in fields(AcceleratorConfig)]
    assert all(option.text and option.usual for option in options())
    text = " ".join(parser().format_help().split())
    for option in options():
        assert option.flag in text
        assert " ".join(option.text.split()) in text
        assert option.switch or f"({option.usual})" in text


def test_flags_choose_and_what_is_not_chosen_is_the_configurations_own():
    assert config_from(parser().parse_args([])) == AcceleratorConfig()
    given = ["--fmt", "fp8", "--dim", "8", "--exact-power-reciprocal", "--exp-theta", "-3",
             "--bus-bytes", "32", "--lane", "bf16"]
    wanted = {"fmt": "fp8", "dim": 8, "exact_power_reciprocal": True, "exp_theta": -3,
              "bus_bytes": 32, "lane_kind": "bf16"}
    assert config_from(parser().parse_args(given)) == AcceleratorConfig(**wanted)
    assert config_from(parser().parse_args(given), dim=4).dim == 4
    assert config_from(parser(dim=4).parse_args([])).dim == 4
    few = parser(only=("dim",), output=False)
    assert set(vars(few.parse_args([]))) == {"dim"}


def test_another_format_takes_its_own_accumulator():
    old = AcceleratorConfig("posit8", acc="exact", softmax="approx", dim=8)
    arguments = parser().parse_args
    assert changed_config(old, arguments(["--lanes", "4"])) == AcceleratorConfig(
        "posit8", acc="exact", softmax="approx", dim=8, lanes=4)
    changed = changed_config(old, arguments(["--fmt", "bf16"]))
    assert (changed.acc, changed.softmax, changed.dim) == ("fp32", "pwl", 8)


@pytest.mark.parametrize("text, wanted", [
    ("0", slice(0, 1)), ("3", slice(3, 4)), ("0:2", slice(0, 2)), (":2", slice(0, 2)),
    ("1:", slice(1, None)), (":", slice(0, None)), ("12:15", slice(12, 15))])
def test_layers(text, wanted):
    assert layers(text) == wanted


@pytest.mark.parametrize("text", ["", "a", "1:2:3", "-1", "1-2", "1.5", " 1"])
def test_layers_that_are_none(text, capsys):
    made = Parser(prog="tool")
    add_model_flags(made, ("bert",), ("none", "all"), tokens="32")
    assert refused(capsys, lambda: made.parse_args(["bert", f"--layers={text}"])) == (
        f"--layers must be A:B, :B, A: or A, layers as whole numbers from 0 up, not {text!r}")


@pytest.mark.parametrize("kind, good, wrong, message", [
    (integer(), ["-3", "0"], ["x", "1.5"], "--n must be an integer, not {!r}"),
    (integer(1), ["1", "99"], ["x", "0"], "--n must be an integer from 1 up, not {}"),
    (integer(1, 5), ["5"], ["6"], "--n must be an integer from 1 to 5, not {}"),
    (real(0), ["0", "1e9"], ["-1", "nan", "inf", "x"], "--n must be a number from 0 up, not {!r}"),
    (real(0, 1), ["0.5"], ["1.5"], "--n must be a number from 0 to 1, not {!r}")])
def test_types(kind, good, wrong, message, capsys):
    made = Parser(prog="tool")
    made.add_argument("-n", "--n", type=kind)
    for text in good:
        assert made.parse_args([f"--n={text}"]).n == float(text)
    for text in wrong:
        said = refused(capsys, lambda text=text: made.parse_args([f"--n={text}"]))
        shown = repr(text) if text == "x" and "{}" in message else text
        assert said == message.format(shown)


def test_names_at_once_and_by_turns(capsys):
    made = Parser(prog="tool")
    add_names(made, "--fmt", tuple(FORMATS), ("posit8",), "formats")
    assert made.parse_args([]).fmt == ("posit8",)
    assert made.parse_args(["--fmt", "fp8", "bf16", "--fmt", "e4m3"]).fmt == [
        "fp8", "bf16", "e4m3"]
    assert made.parse_args([]).fmt == ("posit8",)
    said = refused(capsys, lambda: made.parse_args(["--fmt", "fp8", "int4"]))
    assert said == f"--fmt must be one of {', '.join(FORMATS)}, not 'int4'"


def test_options_are_spelt_in_full(capsys):
    assert "unrecognized arguments: --bus 4" in refused(
        capsys, lambda: parser().parse_args(["--bus", "4"]))


def test_a_file_is_whole_or_as_it_was(tmp_path, capsys):
    made, path = Parser(prog="tool"), tmp_path / "file"
    path.write_text("old")

    def broken(file):
        file.write_text("half")
        raise ValueError("values must be finite, not nan")

    assert refused(capsys, lambda: save(made, path, broken)) == "values must be finite, not nan"
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    assert save(made, path, lambda file: file.write_bytes(b"new")) == 0
    assert deliver(made, tmp_path / "text", lambda: "π\n") == 0
    assert (path.read_text(), (tmp_path / "text").read_text(encoding="utf-8")) == ("new", "π\n")
    assert sorted(os.listdir(tmp_path)) == ["file", "text"]
    assert deliver(made, os.devnull, lambda: "text") == 0


@pytest.mark.parametrize("place, reason", [
    ("none/file", "No such file or directory"), ("", "it is a directory"),
    ("file/more", "Not a directory")])
def test_places_that_cannot_be_written_are_told_before_the_work(place, reason, tmp_path, capsys):
    made = Parser(prog="tool")
    (tmp_path / "file").touch()
    path = str(tmp_path / place)
    for call in (lambda: writable(made, path, "table"),
                 lambda: save(made, path, lambda file: 1 / 0, "table"),
                 lambda: deliver(made, path, lambda: 1 / 0, "table")):
        assert refused(capsys, call) == f"table must be a writable file, not {path!r}: {reason}"
    writable(made, tmp_path / "new")
    assert os.listdir(tmp_path) == ["file"]
