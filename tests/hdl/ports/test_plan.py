"""The plan holds what the table says that a unit takes, and each unit reads just that of it."""

import pytest
from amaranth.hdl import Fragment
from amaranth.lib import data

from hdl.drain.drain import Drain
from hdl.feed.feeder import Feeder
from hdl.load.operand_loader import OperandLoader
from hdl.load.weight_loader import WeightLoader
from hdl.ports import plan
from hdl.ports.plan import copied, plan_layout
from hdl.spec.commands import COMMAND, Unit
from hdl.spec.config import FUNCTION_SETS, AcceleratorConfig

UNITS = {OperandLoader: {Unit.OPERANDS}, WeightLoader: {Unit.WEIGHTS}, Feeder: {Unit.FEEDER},
         Drain: {Unit.DRAIN, Unit.VECTOR}}
ORDER = """a_transposed b_transposed c_transposed row_max row_result a_e5m2 b_e5m2 y0_e5m2 y1_e5m2
    c_e5m2 x_wide y0_wide y1_wide c_wide x_gather m k n a_address b_address c_address y0_address
    y1_address a_stride b_stride c_stride y0_stride y1_stride instructions imm0 imm1 inverse_n
    epsilon""".split()
ADDED = "gemm block_log2 chunk k_span resident streamed passes single rowwise chunk_log2".split()


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
    config, recorders = AcceleratorConfig("fp8", dim=4), []

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
def test_members_stand_where_the_generated_hardware_has_them(functions):
    # By literal: another order is other Verilog.
    config = AcceleratorConfig("posit8", dim=4, functions=functions)
    wanted = ORDER if functions == "all" else ORDER[:-2]
    assert list(copied(config)) == wanted
    assert list(plan_layout(config).members) == wanted + ADDED
    assert {name: bits for name, bits in copied(config).items()
            if bits != COMMAND[name].bits} == {"m": 24, "k": 24, "n": 24}


def test_every_field_but_the_opcode_has_a_unit():
    assert [field.name for field in COMMAND.values() if not field.units] == ["opcode"]
    assert {unit for units in UNITS.values() for unit in units} == set(Unit)
    assert plan.constants(AcceleratorConfig()) == ("imm0", "imm1", "inverse_n", "epsilon")
