"""A block placed and routed, and what is told of it."""

import re

import pytest

from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from support.require import require
from synth import fpga


@pytest.mark.slow
def test_a_small_block_is_placed():
    require(fpga.nextpnr_command)
    made = design_block("mac", AcceleratorConfig("posit8", dim=4))
    placed = fpga.place(made)
    told = fpga.report(placed)
    print("\n".join(told))
    # Its one register of 16 bits, 59 ports and the pin of the chain.
    assert placed.cells["TRELLIS_FF"][0] - placed.pins in range(15, 18)
    assert 300 < placed.cells["TRELLIS_COMB"][0] < 1200 and 20 < placed.mhz < 80
    assert told[-1].split() == ["to", "psum"] and told[-2].split()[0] == "from"
    total = float(re.match(r"longest path +([0-9.]+) ns", told[-3])[1])
    assert total == pytest.approx(1000 / placed.mhz, rel=0.02)


def test_every_port_is_kept_inside():
    made = design_block("mac", AcceleratorConfig("posit8", dim=4))
    text, pins = fpga.around(made)
    ports = [port for port in made.modules["mac"].ports if port.role != "clock"]
    assert pins == sum(port.width for port in ports) + 1
    assert all(f".{port.name}(" in text for port in made.modules["mac"].ports)


def test_cells_are_counted_without_placing(capsys, monkeypatch):
    monkeypatch.setattr(fpga, "design", lambda config, **_: design_block("mac", config))
    monkeypatch.setattr(fpga, "nextpnr_command", None)
    rows = []
    for more in ([], ["--narrow-luts"]):
        assert fpga.main(["--map-only", *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        rows.append({line[:13].strip(): int(line[13:].split(",  ")[0].split(", ")[0].replace(
            ",", "")) for line in lines[-4:]})
    wide, narrow = rows
    assert lines[-3].endswith(", 60 of them for pins")  # 59 ports and the pin of the chain
    assert wide["registers"] == narrow["registers"] in range(75, 79)
    assert 200 < narrow["LUTs"] < wide["LUTs"] < 1200
