import numpy as np
import pytest

from sim.harness import verilate
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.verilate import ToolError
from support.sabotage import with_fault
from synth.foreign import foreign

VERILOG = """
module sums(clk, rst, a_x, wide, vast, q, y, v);
  input clk;
  input rst;
  input [7:0] a_x;
  input [39:0] wide;
  input [69:0] vast;
  output [15:0] q;
  output [39:0] y;
  output [69:0] v;
  reg [15:0] q = 16'h0005;
  assign y = wide + a_x;
  assign v = ~vast;
  always @(posedge clk)
    if (rst) q <= 16'h0000; else q <= q + a_x;
endmodule
"""


@pytest.fixture(scope="module")
def sums():
    return Batch(with_fault(foreign(VERILOG, "sums"), "q", 77), "sums")


def stimuli(cases):
    rng = np.random.default_rng(5)
    return {"a_x": rng.integers(0, 256, cases), "wide": rng.integers(0, 1 << 40, cases),
            "vast": rng.integers(0, 64, (cases, 3)).astype(np.uint32), "fault": 0}


def test_ports_and_widths(sums):
    assert sums.inputs == {"a_x": 8, "wide": 40, "vast": 70, "fault": 1}
    assert sums.outputs == {"q": 16, "y": 40, "v": 70}


def test_one_case_a_cycle_with_latency(sums):
    given = stimuli(1000)
    total = np.cumsum(given["a_x"]).astype(np.uint32) & 0xFFFF
    now = sums.run(given)
    assert now["q"][0] == 0 and (now["q"][1:] == total[:-1]).all()
    assert (now["y"] == (given["wide"] + given["a_x"]) % (1 << 40)).all()
    assert (now["v"] == ~given["vast"] & np.array([2**32 - 1, 2**32 - 1, 63])).all()
    assert (sums.run(given, latency=1)["q"] == total).all()


def test_negative_numbers_are_twos_complement(sums):
    given = stimuli(3) | {"a_x": np.array([-1, -2, 300]), "wide": -1}
    assert (sums.run(given)["y"] == np.array([254, 253, 43])).all()


def test_a_fault_is_seen(sums):
    given = stimuli(1000) | {"a_x": 1}
    sound, faulty = (sums.run(given | {"fault": fault})["q"] for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 1
    with pytest.raises(AssertionError, match="1 of 1000 cases differ; case 77: got 0x4c"):
        check("fault", faulty, sound)


def test_empty_and_wrong_inputs_are_refused(sums):
    with pytest.raises(ValueError, match="at least one"):
        count_mismatches(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="at least one case, not 0"):
        sums.run(stimuli(1) | {"a_x": np.array([], int), "wide": 0, "vast": 0})
    with pytest.raises(ValueError, match="inputs of sums must be"):
        sums.run({"a_x": np.array([1])})
    with pytest.raises(ValueError, match="arrays of one length"):
        sums.run(stimuli(3) | {"a_x": np.array([1])})
    with pytest.raises(ValueError, match="must hold integers, not float64"):
        sums.run(stimuli(3) | {"a_x": np.array([1.0, 2.0, 3.0])})


def test_verilog_with_an_error_is_told():
    with pytest.raises(ToolError, match="syntax error"):
        Batch("module broken(;", "broken")


@pytest.mark.parametrize("workers, files", [(None, 2), ("1", 2), ("2", 1), ("8", 1)])
def test_sources_are_shared_out_among_free_processors(workers, files, tmp_path, monkeypatch):
    sources = [tmp_path / f"{name}.cpp" for name in "abc"]
    for source in sources:
        source.write_text("//\n" * 100_000)
    monkeypatch.setattr(verilate.os, "cpu_count", lambda: 2)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    if workers is not None:
        monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
    jobs = verilate._united(tmp_path / "fast", sources)
    texts = [source.read_text() for source, _ in jobs]
    assert len(jobs) == files
    assert sum(text.count(str(path)) for text in texts for path in sources) == len(sources)
