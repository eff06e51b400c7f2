"""Utilisation as the design defines it, by the hardware's own counters."""

import pytest

from hdl.spec.config import AcceleratorConfig
from sim.campaigns import throughput
from sim.campaigns.throughput import BACK_TO_BACK, TARGETS, Measurement, main, measure, table
from sim.cycles.bound import Bound
from sim.harness.accelerator import Accelerator

BOUND = Bound(16_000, "array")
SIZES = [128, pytest.param(512, marks=pytest.mark.slow)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("commands", [1, BACK_TO_BACK])
def test_the_array_is_as_busy_as_promised(size, commands):
    row = measure(Accelerator(AcceleratorConfig("posit8", dim=16)), size, commands)
    print("\n".join(table([row])))
    assert row.rows == commands * size ** 3 // 256
    assert row.utilisation >= TARGETS[size, commands]
    assert 1 <= row.bound.ratio(row.cycles) <= {128: 1.07, 512: 1.01}[size]


def test_cycles_add_up():
    row = Measurement(16, 128, 2, 20_000, BOUND, 16_384, dict.fromkeys(throughput._STALLS, 100))
    assert row.ends == 20_000 - 16_384 - 300
    assert row.utilisation == pytest.approx(2 * 128 ** 3 / 256 / 20_000)
    assert table([row])[1].split()[3] == "1.250"


def test_a_missed_target_is_told(monkeypatch, capsys):
    monkeypatch.setattr(throughput, "Accelerator", lambda config: config)
    monkeypatch.setattr(throughput, "measure", lambda config, size, commands, **_: Measurement(
        16, size, commands, size ** 3 * commands // 128, BOUND, 0,
        dict.fromkeys(throughput._STALLS, 0)))
    assert main(["--sizes", "128", "--no-softmax"]) == 1
    assert capsys.readouterr().err.count("missed: 128³") == 2


@pytest.mark.parametrize("arguments, message", [
    (["--sizes", "0"], "--sizes must be an integer from 1 up, not 0"),
    (["--dim", "3"], "dim must be a power of two from 4 to 128, not 3"),
])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
