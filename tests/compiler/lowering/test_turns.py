"""Scores in turns with the projection of earlier queries: the same bytes in fewer cycles."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import samples
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, inputs_for, llama
from compiler.lowering import lower as lowering
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import lower, trace
from compiler.lowering.ops import Gemm, Product
from compiler.lowering.place import place
from compiler.lowering.tracer import Tracer
from compiler.lowering.turns import parts, take_turns
from compiler.lowering.values import Form
from compiler.program.builder import ProgramBuilder, read_codes
from compiler.program.records import commands
from hdl.spec.commands import Opcode
from hdl.spec.config import AcceleratorConfig
from sim.cycles.simulate import simulate
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=8)
ROWS = 256


def model():
    """Heads of two K-tiles, which the array is done with before the lanes are."""
    return llama(layers=1, width=384, heads=24, kv_heads=6, hidden=16, words=8)


def fused(config=CONFIG, made=None, rows=ROWS, sequences=1):
    made = made or model()
    return fuse(trace(made, inputs_for(made, rows, sequences)), config, Fusion.RESIDUAL)


def program(turns, monkeypatch, **options):
    with monkeypatch.context() as patch:
        if not turns:
            patch.setattr(lowering, "take_turns", lambda fused, config: fused)
        return lower(CONFIG, model(), inputs_for(model(), ROWS), **options)


def listed(lowered):
    return [own for _, own in commands(lowered.memory, lowered.address, lowered.base)]


def ran(lowered):
    memory = lowered.memory.copy()
    assert Machine(CONFIG).run(memory, lowered.address, lowered.base).error is None
    return {name: read_codes(memory, tensor, lowered.base)
            for name, tensor in lowered.results.items()}


def test_an_attention_and_its_projection_come_in_turns():
    found = take_turns(fused(), CONFIG)
    (own,) = found.turns
    assert [op.out.value.name.removeprefix("layer 0 ") for op in found.ops[own.start:own.stop]] == [
        "probabilities", "probabilities", "heads", "heads", "attention sum"]
    flat = [op for part in found.parts() for op in part]
    assert flat == list(found.ops) and [len(part) for part in found.parts()].count(5) == 1


def test_the_bytes_are_those_of_one_after_the_other(monkeypatch):
    """Of one after the other, each tensor in a place of its own."""
    plain, turned = program(False, monkeypatch, keep=True), program(True, monkeypatch)
    first, second = map(ran, (plain, turned))
    counts = [len(listed(lowered)) for lowered in (plain, turned)]
    size = sum(codes.nbytes for codes in second.values())
    print(f"{counts[0]} and {counts[1]} commands, {size} bytes")
    assert counts[1] > counts[0] + 300 and turned.macs == plain.macs and size > 300_000
    assert all((codes == first[name]).all() for name, codes in second.items())


def test_a_projection_of_several_commands_is_made_whole(monkeypatch):
    """With a bias and the residual, its rows are wider than a bank."""
    config = AcceleratorConfig("posit8", dim=8, acc_depth=64, bus_bytes=32)
    wide = llama(layers=1, width=768, heads=8, kv_heads=8, hidden=16, words=8)
    attention = samples._Maker(1, 768).attention(8, 8, 16, bias=True, causal=True)
    wide = replace(wide, blocks=(replace(wide.blocks[0], attention=attention),))
    given = inputs_for(wide, ROWS)
    turned = lower(config, wide, given)
    monkeypatch.setattr(lowering, "take_turns", lambda fused, config: fused)
    plain = lower(config, wide, given)
    names = [[name for name in own.written if "sum" in name] for own in (plain, turned)]
    assert len(names[0]) == 2 and len(names[1]) > 700
    assert turned.macs == plain.macs


def test_turns_take_fewer_cycles(monkeypatch):
    cycles, fences = [], []
    for turns in (False, True):
        found = listed(program(turns, monkeypatch))
        cycles.append(simulate(CONFIG, found).cycles)
        fences.append([own["opcode"] for own in found].count(Opcode.FENCE))
    print(f"{cycles[0]} cycles and {fences[0]} fences, in turns {cycles[1]} and {fences[1]}")
    assert cycles[1] < cycles[0] - 38_000 and fences[1] <= fences[0] + 3


def test_what_is_written_in_turns_shares_no_memory():
    found = take_turns(fused(), CONFIG)
    places = place(found, ProgramBuilder(CONFIG))
    checked = 0
    for part in found.parts():
        tensors = [places[slot] for slot in {
            (view.value, view.form) for op in part
            for view in (op.out, *(read.view for read in op.reads))}]
        for index, one in enumerate(tensors):
            for other in tensors[:index]:
                assert (one.address + one.span <= other.address
                        or other.address + other.span <= one.address)
                checked += len(part) > 1
    print(f"{checked} pairs")
    assert checked > 20


def product(k, columns):
    x, w, out = (Tracer().value(name, *shape) for name, shape in (
        ("x", (512, k)), ("w", (columns, k)), ("out", (512, columns))))
    views = [replace(value.whole, form=Form.STORED) for value in (x, w, out)]
    return Gemm(views[2], (Product(*views),))


@pytest.mark.parametrize("turns, least, wanted", [
    (8, 0, (32, 32)), (64, 0, (32, 32)), (65, 0, (32, 16)), (256, 0, (32, 8)), (257, 0, (16, 8)),
    (64, 8192, (32, 32)), (64, 8193, None), (257, 1025, None),
    (513, 0, None)])  # 8 × 8: a beat of the bus each cycle
def test_parts_of_a_product(turns, least, wanted):
    assert parts(AcceleratorConfig("posit8", dim=8, bus_bytes=16), product(512, 512), 128, turns,
                 least) == wanted


def test_a_narrow_bus_takes_no_parts():
    assert parts(AcceleratorConfig("posit8", dim=16, bus_bytes=8), product(512, 512), 128, 8,
                 0) is None


@pytest.mark.parametrize("change", [
    {"made": bert(width=96, positions=256)}, {"rows": 128}, {"sequences": 2},
    {"config": AcceleratorConfig("posit8", dim=4)},  # heads of four K-tiles
    {"config": AcceleratorConfig("posit8", dim=8, bus_bytes=4)},
    {"made": llama(layers=1, width=384, heads=2, kv_heads=2, hidden=16)}])
def test_what_stays_as_it_is(change):
    assert take_turns(fused(**change), change.get("config", CONFIG)).turns == ()


def test_turns_need_the_rows_of_one_sequence_in_order():
    found = take_turns(fused(), CONFIG)
    (own,) = found.turns
    ops, end = found.ops, own.stop - 1
    first, second = own.start, own.start + 1
    for changed in ((*ops[:first], ops[second], ops[first], *ops[second + 1:]),
                    (*ops[:second], *ops[second + 1:]), (*ops[:end], ops[0], *ops[end:])):
        assert take_turns(replace(found, ops=changed, turns=()), CONFIG).turns == ()


def test_states_come_in_turns_too():
    given = Inputs("states", np.zeros((1, ROWS, 384), np.float32))
    assert len(lower(CONFIG, model(), given, layers=range(1)).written) > 400
