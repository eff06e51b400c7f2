"""The plan holds what the table says that a unit takes, and each unit reads just that of it."""

import pytest
from amaranth.hdl import Fragment
from amaranth.lib import data

from hdl.drain.drain import Drain
from hdl.feed.feeder import Feeder
from hdl.load.operand_loader import OperandLoader
from hdl.load.weight_loader import WeightLoader
from hdl.ports.plan import constants, copied, plan_layout
from hdl.spec.commands import COMMAND, Unit
from hdl.spec.config import FUNCTION_SETS, AcceleratorConfig
from support.builds import with_functions

UNITS = {OperandLoader: {Unit.OPERANDS}, WeightLoader: {Unit.WEIGHTS}, Feeder: {Unit.FEEDER},
         Drain: {Unit.DRAIN, Unit.VECTOR}}
ADDED = ("gemm block_log2 chunk k_span resident streamed passes single rowwise chunk_log2 "
         "ahead").split()


class Recorder(data.StructLayout):
    """A plan's layout that notes which members are asked for."""

    def __init__(self, members):
        self.asked = set()
        super().__init__(members)

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_reads_what_the_table_says_that_it_takes(unit, monkeypatch):
    config, recorders = AcceleratorConfig("fp8", dim=4, functions="scales"), []

    def recorded(config):
        recorders.append(Recorder(plan_layout(config).members))
        return recorders[-1]

    monkeypatch.setattr(f"{unit.__module__}.plan_layout", recorded)
    component = unit(config)
    for recorder in recorders:
        recorder.asked.clear()
    Fragment.get(component, None)
    asked = set().union(*(recorder.asked for recorder in recorders)) & set(COMMAND)
    taken = {field.name for field in COMMAND.values() if UNITS[unit] & set(field.units)}
    print(f"{unit.__name__}: {len(asked)} fields")
    assert asked == taken and len(asked) > 5


@pytest.mark.parametrize("functions", FUNCTION_SETS)
def test_members_of_a_plan(functions):
    # Their order within a kind is that of the table, and pinned by the digests of the Verilog.
    config = with_functions(functions)
    fields, kinds = copied(config), []
    for name, bits in fields.items():
        flag, number = COMMAND[name].bits == 1, COMMAND[name].number is not None
        kinds.append(0 if flag else 1 if bits == 24 else 3 if number else 2)
    assert kinds == sorted(kinds) and set(kinds) == {0, 1, 2, 3}
    assert list(plan_layout(config).members) == [*fields, *ADDED]
    assert {name: bits for name, bits in fields.items() if bits != COMMAND[name].bits} == {
        "m": 24, "k": 24, "n": 24}
    assert ("epsilon" in fields) == ("epsilon" in constants(config)) == config.squares


def test_every_field_but_the_opcode_has_a_unit():
    # The sequencer's own are none of the plan.
    assert [field.name for field in COMMAND.values() if not field.units] == [
        "opcode", "imm0_scalar", "imm1_scalar"]
    assert {unit for units in UNITS.values() for unit in units} == set(Unit)
