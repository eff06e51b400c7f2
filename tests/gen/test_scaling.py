"""Text and, on a quiet machine, time of generation grow at most as ``dim`` does."""

from dataclasses import replace

import pytest

from gen.cached import generated
from gen.scaling import DIMS, Cost, cost_of, faster_than_linear, main, table
from hdl.spec.config import AcceleratorConfig
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
    costs = [Cost(config, len(generated(config).encode()), 1.0) for config in configs]
    assert min(cost.bytes for cost in costs) > 100_000 and faster_than_linear(costs) == []


@pytest.mark.slow
def test_every_format():
    check(tuple(FORMATS), DIMS)


@pytest.mark.slow
def test_every_format_with_exact_sums():
    check(tuple(fmt for fmt in FORMATS if fmt != "bf16"), DIMS, "exact")


def test_faster_growth_is_seen():
    small = Cost(AcceleratorConfig(dim=4), 1000, 1.0)
    large = Cost(AcceleratorConfig(dim=8), 2000, 2.0)
    assert faster_than_linear([large, small]) == []
    assert faster_than_linear([small, replace(large, bytes=2001)]) == [
        "posit8 bf16: bytes grow 2.00 times from dim 4 to 8, 2 allowed"]
    assert faster_than_linear([small, replace(large, seconds=2.5)]) == [
        "posit8 bf16: seconds grow 2.50 times from dim 4 to 8, 2 allowed"]
    assert "| posit8 bf16 | 1,000 | 1.0 | 2,000 | 2.0 |" in table([small, large])


def test_bad_arguments_give_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--dim", "12"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
