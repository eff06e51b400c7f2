import json
import os
import re
import subprocess
import sys

import pytest

from gen import top
from gen.block import BLOCKS
from gen.block import main as block_main
from gen.cli import Parser, add_module_names, prefix_from
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS


def run(module, *arguments, **options):
    return subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True,
                          text=True, timeout=600, **options)


@pytest.mark.parametrize("arguments, words", [
    (["--fmt", "posit9"], ["posit9", "posit8, posit8es0", "bf16"]),
    (["--fmt", "int4"], ["int4", "one of posit8, "]),
    (["--fmt", "int8", "--acc", "exact"], ["must be int32", "exact as it is"]),
    (["--acc", "int32"], ["must be bf16, fp32, exact", "it adds integers"]),
    (["--fmt", "int8", "--functions", "training"], ["gradients are no integers"]),
    (["--dim", "0"], ["dim", "power of two from 4 to 128", "not 0"]),
    (["--dim", "3.5"], ["dim", "power of two from 4 to 128", "not '3.5'"]),
    (["--dim", "8", "--lanes", "16"], ["lanes", "from 4 to 8", "not 16"]),
    (["--acc", "fp64"], ["acc", "bf16, fp32", "fp64"]),
    (["--fmt", "bf16", "--acc", "bf16"], ["acc", "fp32"]),
    (["--exp-epsilon", "abc"], ["exp_epsilon", "an integer from 0 to 255", "not 'abc'"]),
    (["--exp-epsilon", "256"], ["exp_epsilon", "an integer from 0 to 255", "not 256"]),
    (["--softmax", "approx_shifted", "--exp-epsilon", "100"],
     ["exp_epsilon", "at least 128 without exp_theta", "not 100"]),
    (["--exp-theta", "-1.5"], ["exp_theta", "an integer from -32640 to 0", "not '-1.5'"]),
    (["--pe-latency", "0"], ["pe_latency", "an integer from 1 to 2", "not 0"]),
    (["--pe-latency", "3"], ["pe_latency", "an integer from 1 to 2", "not 3"]),
    (["--lane-latency", "5"], ["lane_latency", "an integer from 1 to 4", "not 5"]),
    (["--target", "gpu"], ["target", "asic, fpga", "not 'gpu'"]),
    (["--target", "fpga", "--dim", "5"], ["dim", "a power of two from 4 to 128", "not 5"]),
    (["--acc", "exact", "--pe-latency", "4"], ["pe_latency", "from 1 to 3", "not 4"]),
    (["--sum-ways", "3"], ["sum_ways", "a power of two from 1 to 4", "not 3"]),
    (["--softmax", "exact"], ["softmax", "pwl, approx, approx_shifted, linear", "exact"]),
    (["--nonsense"], ["--nonsense"]),
    (["-o", "/nonexistent/file.v"], ["/nonexistent/file.v", "No such file"]),
    (["-o", "/"], ["'/'", "directory"]),
])
def test_bad_arguments_give_one_line_and_code_2(arguments, words, capsys):
    for main, block in ((top.main, []), (block_main, ["decoder"])):
        with pytest.raises(SystemExit) as ended:
            main([*block, *arguments])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert err.count("\n") == 1 and all(word in err for word in words), err


@pytest.mark.parametrize("arguments, prefix", [
    ([], "ottava_"), (["--name", "left"], "left_"), (["--prefix", ""], ""),
    (["--name", "left", "--prefix", "right"], "right")])
def test_modules_are_named_after_the_top_unless_told_otherwise(arguments, prefix):
    parser = Parser()
    add_module_names(parser)
    assert prefix_from(parser.parse_args(arguments)) == prefix


@pytest.mark.parametrize("arguments, message", [
    (["--name", "8va"], "module name must be a legal Verilog identifier, not '8va'"),
    (["--name", "größe"], "module name must be a legal Verilog identifier, not 'größe'"),
    (["--name", "wire"], "module name must be a legal Verilog identifier, not 'wire'"),
    (["--prefix", "8"], "prefix must be a legal Verilog identifier, not '8'")])
def test_a_name_that_is_none_is_told_of_as_a_name(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        top.main(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err == f"gen.top: error: {message}\n"


@pytest.mark.parametrize("name, low, high", [("exp_epsilon", 0, 255), ("exp_theta", -32640, 0)])
def test_exp_parameters_are_integers_in_their_range(name, low, high):
    for value in (low, high):
        config = AcceleratorConfig(**{"exp_theta": -640, name: value})
        assert getattr(config, name) == value
    for value in (low - 1, high + 1, "1", 0.5, True):
        with pytest.raises(ValueError) as refused:
            AcceleratorConfig(**{name: value})
        assert str(refused.value) == (
            f"{name} must be an integer from {low} to {high}, not {value!r}")


def test_unknown_block_names_the_allowed_ones():
    done = run("gen.block", "adder")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "adder" in done.stderr and ", ".join(BLOCKS) in done.stderr


def test_a_failed_run_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "out.v"
    target.write_text("old")
    done = run("gen.block", "decoder", "--name", "x", "-o", str(target))
    assert done.returncode == 2
    done = run("gen.block", "adder", "-o", str(target))
    assert done.returncode == 2
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["out.v"]


def test_output_file_equals_standard_output(tmp_path):
    target = tmp_path / "decoder.v"
    done = run("gen.block", "decoder", "--fmt", "posit8", "-o", str(target))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = run("gen.block", "decoder", "--fmt", "posit8")
    assert target.read_text() == again.stdout and "module decoder(" in again.stdout
    assert os.listdir(tmp_path) == ["decoder.v"]


def test_full_and_closed_standard_output():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "gen.top", "--regmap", "md"], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "gen.top", "--regmap", "json"], stdout=writer,
                          stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 1 and done.stderr == ""


def test_register_map_holds_every_register_once():
    table = json.loads(run("gen.top", "--regmap", "json").stdout)
    assert [row["name"] for row in table["registers"]] == [item.name for item in REGISTERS]
    assert [row["name"] for row in table["errors"]] == [cause.name for cause in ErrorCause]
    text = run("gen.top", "--regmap", "md").stdout
    for item in REGISTERS:
        assert len(re.findall(rf"^\| 0x{item.offset:03X} \| {item.name} \|", text, re.M)) == 1
