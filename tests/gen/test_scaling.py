"""Text and, on a quiet machine, time of generation grow at most as ``dim`` does."""

from dataclasses import replace

import pytest

from gen.cached import generated
from gen.scaling import DIMS, Cost, cost_of, faster_than_linear, main, over_goal, table
from hdl.spec.config import AcceleratorConfig, accumulators
from hdl.spec.formats import FORMATS


def check(formats, dims, acc=None):
    costs = [cost_of(AcceleratorConfig(fmt=fmt, dim=dim, acc=acc))
             for fmt in formats for dim in dims]
    print(table(costs))
    assert len(costs) == len(formats) * len(dims) and min(cost.bytes for cost in costs) > 100_000
    assert faster_than_linear(costs) == []


@pytest.mark.parametrize("fmt", ["e4m3", "bf16"])
def test_text_grows_at_most_as_dim_does(fmt):
    # Time, which neighbours of a test disturb, is compared by the long tests.
    configs = [AcceleratorConfig(fmt, dim=dim) for dim in (16, 32)]
    costs = [Cost(config, len(generated(config).text.encode()), 1.0) for config in configs]
    assert min(cost.bytes for cost in costs) > 100_000 and faster_than_linear(costs) == []


@pytest.mark.slow
def test_every_format():
    check(tuple(FORMATS), DIMS)


@pytest.mark.slow
def test_every_format_with_exact_sums():
    check(tuple(name for name, fmt in FORMATS.items() if "exact" in accumulators(fmt)), DIMS,
          "exact")


@pytest.mark.slow  # a bound on time is for a quiet machine, even on the processor's
def test_the_goal_is_reached():
    cost = cost_of(AcceleratorConfig("posit8", dim=64), repeat=3)
    print(table([cost]))
    assert over_goal([cost]) == []


def test_faster_growth_is_seen():
    small = Cost(AcceleratorConfig(dim=4), 1000, 1.0)
    large = Cost(AcceleratorConfig(dim=8), 2000, 2.0)
    assert faster_than_linear([large, small]) == []
    assert faster_than_linear([small, replace(large, bytes=2001)]) == [
        "posit8 bf16: bytes grow 2.00 times from dim 4 to 8, 2 allowed"]
    assert faster_than_linear([small, replace(large, seconds=2.5)]) == [
        "posit8 bf16: seconds grow 2.50 times from dim 4 to 8, 2 allowed"]
    assert "| posit8 bf16 | 1,000 | 1.0 | 2,000 | 2.0 |" in table([small, large])


def test_what_is_over_its_goal_is_seen(monkeypatch, capsys):
    within = Cost(AcceleratorConfig(dim=64), 1_000_000, 4.0)
    assert over_goal([within, Cost(AcceleratorConfig(dim=32), 10 ** 9, 99.0)]) == []
    for wrong in (replace(within, bytes=1_000_001), replace(within, seconds=4.1)):
        line, = over_goal([wrong])
        assert line.startswith("posit8 bf16 at dim 64: ") and line.endswith("4 allowed")
        monkeypatch.setattr("gen.scaling.cost_of", lambda config, repeat, cost=wrong: cost)
        assert main(["--fmt", "posit8", "--dim", "64"]) == 1
        assert "1 over goal" in capsys.readouterr().out
    monkeypatch.setattr("gen.scaling.cost_of", lambda config, repeat: within)
    assert main(["--fmt", "posit8", "--dim", "64", "--repeat", "3"]) == 0


def test_the_quickest_run_counts(monkeypatch):
    config = AcceleratorConfig(dim=4)
    runs = iter(Cost(config, 1, seconds) for seconds in (3.0, 2.0, 4.0))
    monkeypatch.setattr("gen.scaling._run", lambda config: next(runs))
    assert cost_of(config, 3).seconds == 2.0


@pytest.mark.parametrize("arguments, message", [
    (["--dim", "12"], "dim must be a power of two"),
    (["--repeat", "0"], "repeat must be an integer from 1 up, not 0"),
    (["--repeat", "x"], "repeat must be an integer from 1 up, not 'x'")])
def test_bad_arguments_give_one_line_and_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
