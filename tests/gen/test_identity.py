"""A leaf's name stands for one hardware: what else would bear it is refused."""

from itertools import product

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from gen.identity import surely_equal
from gen.leaves import Library
from gen.top import build
from hdl.lib.leaf import shared
from hdl.spec.config import FUNCTION_SETS, AcceleratorConfig
from hdl.spec.formats import FORMATS
from hdl.top import Accelerator
from tools.golden import builds

# A build that is refused leaves modules behind.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


class Step(wiring.Component):
    """A leaf whose name forgets one of its parameters."""

    leaf_name = "step"

    def __init__(self, step, width=8, note=None):
        self._step = step
        self.note = note
        super().__init__({"a": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.a + self._step)
        return m


class Outer(wiring.Component):
    """A parent of two steps, one of which may be hidden inside a leaf."""

    def __init__(self, *steps):
        self.steps = steps
        super().__init__({"a": In(8), "o": Out(8)})

    def elaborate(self, platform):
        m = Module()
        value = self.a
        for number, step in enumerate(self.steps):
            m.submodules[f"step{number}"] = shared(step)
            m.d.comb += step.a.eq(value)
            value = step.o
        m.d.comb += self.o.eq(value)
        return m


def add(*steps, check=False):
    library = Library("p_", check=check)
    library.add(Outer(*steps), "outer")
    return library


def converted(monkeypatch):
    """Names of the components that a library converts from now on."""
    names, convert = [], Library._convert
    monkeypatch.setattr(Library, "_convert", lambda self, component, name: names.append(name)
                        or convert(self, component, name))
    return names


def test_equal_parameters_are_converted_once(monkeypatch):
    names = converted(monkeypatch)
    add(Step(1), Step(1), Step(1))
    assert sorted(names) == ["outer", "p_step"]


def test_other_insides_are_refused():
    with pytest.raises(ValueError, match=(
            r"^leaf 'p_step' names two components with different insides: .*\.Step\(step=1, "
            r"note=None\) and .*\.Step\(step=2, note=None\)$")):
        add(Step(1), Step(2))


def test_other_ports_are_refused():
    library = Library()
    library.reference(Step(1))
    with pytest.raises(ValueError, match="^leaf 'step' names two components with different ports"):
        library.reference(Step(1, width=9))


def test_parameters_that_change_nothing_are_converted_and_pass(monkeypatch):
    names = converted(monkeypatch)
    add(Step(1, note="x"), Step(1, note="y"))
    assert names.count("p_step") == 2


def test_checking_converts_what_is_surely_equal(monkeypatch):
    names = converted(monkeypatch)
    add(Step(1), Step(1), Step(1), check=True)
    assert names.count("p_step") == 3


def test_checking_finds_what_parameters_do_not_tell(monkeypatch):
    steps = iter((3, 3, 4))
    monkeypatch.setattr(Step, "elaborate", lambda self, platform: wrong(self, next(steps)))

    def wrong(self, step):
        m = Module()
        m.d.comb += self.o.eq(self.a + step)
        return m

    add(Step(1), Step(1))
    steps = iter((3, 3, 4))
    with pytest.raises(ValueError, match="two components with different insides"):
        add(Step(1), Step(1), Step(1), check=True)


@pytest.mark.parametrize("one, other, equal", [
    (1, 1, True), (1, 2, False), (1, True, False), ("a", "a", True), ((1, "a"), (1, "a"), True),
    ((1, 2), (1, 3), False), ((1,), [1], False), (FORMATS["fp8"], FORMATS["fp8"], True),
    (FORMATS["fp8"], FORMATS["e4m3"], False), (AcceleratorConfig(), AcceleratorConfig(), True),
    (AcceleratorConfig(), AcceleratorConfig(dim=8), False), (Signal(3), Signal(3), False)])
def test_what_counts_as_equal(one, other, equal):
    library = Library()
    components = [Step(1, note=value) for value in (one, other)]
    for component in components:
        library.reference(component)
    assert surely_equal(*components) == equal


def checked(config):
    library = Library(check=True)
    library.add(Accelerator(config), "ottava")
    print(f"{config.fmt} {config.acc}: {len(library.modules)} leaves, every instance converted")
    assert len(library.modules) > 40


def varied():
    """Builds that differ in what the kept digests leave as it is."""
    for latencies in product((1, 2), repeat=2):
        yield AcceleratorConfig("fp8", dim=4, pe_latency=latencies[0], lane_latency=latencies[1])
    for lane, ways in ((3, 2), (4, 4)):
        yield AcceleratorConfig("posit8", dim=4, lane_latency=lane, sum_ways=ways)
    for inputs, weights, sums, rows in ((64, 32, 16, 8), (2048, 512, 256, 64)):
        yield AcceleratorConfig("posit8", dim=8, bus_bytes=8, input_depth=inputs,
                                weight_depth=weights, acc_depth=sums, row_depth=rows)
    for bus in (4, 64):
        yield AcceleratorConfig("posit8", dim=4, bus_bytes=bus)
    for functions in FUNCTION_SETS:
        fixed = functions == "linear"  # of lanes of integers alone
        yield AcceleratorConfig("int8" if fixed else "e4m3", dim=4,
                                acc="int32" if fixed else "exact", functions=functions)


@pytest.mark.parametrize("config", [
    AcceleratorConfig("posit8", dim=4, pe_latency=2, lane_latency=3, sum_ways=2, acc_depth=16,
                      row_depth=8),
    AcceleratorConfig("fp8", dim=4, acc="exact", functions="softmax", softmax="pwl")],
    ids=lambda config: f"{config.fmt} {config.acc}")
def test_every_instance_is_the_leaf_of_its_name(config):
    checked(config)


@pytest.mark.slow
def test_every_instance_of_every_build_is_the_leaf_of_its_name():
    configs = [*varied(), *(one.config for one in builds())]
    for config in configs:
        checked(config)
    assert len(configs) > 120


@pytest.mark.slow
def test_names_mean_one_hardware_in_all_builds():
    digests = {}
    for config in [*varied(), *(one.config for one in builds())]:
        for name, leaf in build(config).modules.items():
            if name != "ottava":
                assert digests.setdefault(name, leaf.digest) == leaf.digest, (name, config)
    print(f"{len(digests)} leaves of different names")
    assert len(digests) > 200
