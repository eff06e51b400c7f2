"""The module of LiteX: each port meets a signal of LiteX's records, of its direction and width."""

import ast
import sys
from importlib import import_module

import pytest

from gen.package.litex import class_name, litex_module
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings
from support.require import module, require

CONFIG = AcceleratorConfig("fp8", dim=4, bus_bytes=8)
UNITED = {"aclk", "aresetn"}  # of the domain: they have no width of their own


class Platform:
    sources: list[str]

    def __init__(self):
        self.sources = []

    def add_source(self, path):
        self.sources.append(path)


def made_of(text, folder, name):
    """An instance of the class in ``text``, its platform, and its ports by name."""
    require(module, "litex")
    (folder / f"{name}_litex.py").write_text(text)
    sys.path.insert(0, str(folder))
    try:
        found = getattr(import_module(f"{name}_litex"), class_name(name))
    finally:
        sys.path.remove(str(folder))
    platform = Platform()
    accelerator = found(platform)
    (instance,) = accelerator.get_fragment().specials
    assert instance.of == name
    listed = [(item.name, type(item).__name__.lower(), item.expr) for item in instance.items]
    assert len({port for port, _, _ in listed}) == len(listed)
    return accelerator, platform, {port: (kind, expr) for port, kind, expr in listed}


@pytest.fixture(scope="module")
def left():
    return design(CONFIG, "left_one", "left_")


def test_every_port_is_connected(left, tmp_path):
    accelerator, platform, found = made_of(litex_module(left, CONFIG), tmp_path, "left_one")
    ports = left.modules["left_one"].ports
    assert {name: kind for name, (kind, _) in found.items()} == {
        port.name: port.direction for port in ports}
    for port in ports:
        if port.name not in UNITED:
            assert len(found[port.name][1]) == port.width, port.name
    driven = [id(found[port.name][1]) for port in ports if port.name not in UNITED]
    assert len(set(driven)) == len(driven) > 50  # no signal twice
    assert platform.sources == [str(tmp_path / "left_one.v")]
    assert found["interrupt"][1] is accelerator.ev.ended.trigger


def test_two_clocks_and_an_enable(tmp_path):
    around = Surroundings(reset="async", clock_enable=True, control_clock=True, address_bits=40)
    made = design(CONFIG, "two", "two_", surroundings=around)
    text = litex_module(made, CONFIG)
    accelerator, _, found = made_of(text, tmp_path, "two")
    ports = made.modules["two"].ports
    assert {name: kind for name, (kind, _) in found.items()} == {
        port.name: port.direction for port in ports}
    assert found["aclken"][1] is accelerator.enable
    assert len(found["m_axi_gmem_awaddr"][1]) == 40
    lines = set(text.split())
    assert {"i_aclk=ClockSignal(domain),", "i_aresetn=~ResetSignal(domain),",
            'i_s_axi_ctrl_aclk=ClockSignal("sys"),',
            'i_s_axi_ctrl_aresetn=~ResetSignal("sys"),'} <= lines


def test_a_port_of_another_width_is_seen(left, tmp_path):
    text = litex_module(left, CONFIG).replace("data_width=64", "data_width=32")
    _, _, found = made_of(text.replace("left_one", "wrong_one").replace("LeftOne", "WrongOne"),
                          tmp_path, "wrong_one")
    differing = [port.name for port in left.modules["left_one"].ports
                 if port.name not in UNITED and len(found[port.name][1]) != port.width]
    assert differing == ["m_axi_gmem_rdata", "m_axi_gmem_wdata", "m_axi_gmem_wstrb"]


def test_the_class_has_no_name_that_its_text_uses(left):
    tree = ast.parse(litex_module(left, CONFIG))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert {"Signal", "Instance", "LiteXModule"} < used
    for top in (*used, "signal", "so_c_region", "none", "true", "_1", "_"):
        name = class_name(top)
        assert name not in used
        ast.parse(f"class {name}: pass")
    assert class_name("left_one") == "LeftOne"
