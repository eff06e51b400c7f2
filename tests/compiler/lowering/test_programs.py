import resource
import tracemalloc

import numpy as np
import pytest

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.lower import lower
from compiler.lowering.programs import Programs
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("posit8", dim=4)


def results(program):
    memory = program.memory.copy()
    assert Machine(CONFIG).run(memory, program.address, program.base).error is None
    return {name: read_codes(memory, tensor, program.base)
            for name, tensor in program.results.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_programs_of_any_shape_on_weights_that_lie_once(name):
    model = SAMPLES[name]()
    programs, placed, count = Programs(CONFIG, model, base=128), [], 0
    for sequences, length in ((1, 4), (2, 7), (1, 1), (1, 4)):
        given = inputs_for(model, length, sequences, seed=length)
        program = programs.lower(given)
        found, wanted = results(program), results(lower(CONFIG, model, given))
        assert found.keys() == wanted.keys()
        for key, codes in wanted.items():
            assert np.array_equal(found[key], codes)
            count += codes.size
        placed.append(program.memory[:programs.weights].tobytes())
    assert len(set(placed)) == 1 and len(placed[0]) > 1000
    assert programs.lower(inputs_for(model, 1)).memory.size < programs.weights + 30_000
    print(f"{count} codes compared")


@pytest.mark.parametrize("make", [
    lambda model, given: Programs(CONFIG, model).lower(given),
    lambda model, given: lower(CONFIG, model, given),
    lambda model, given: lower_decoding(CONFIG, model, 4, given.length)])
@pytest.mark.parametrize("limit", ["machine", "process", "cgroup"])
def test_what_this_machine_has_no_memory_for_is_refused_before_an_array_is_made(
        make, limit, monkeypatch, tmp_path):
    model, most = SAMPLES["random-llama"](), 10 ** 8
    (tmp_path / "max").write_text(f"{most}\n")
    monkeypatch.setattr("compiler.lowering.capacity._CGROUPS", (
        (tmp_path / "max",) if limit == "cgroup" else (tmp_path / "none", tmp_path)))
    monkeypatch.setattr("os.sysconf", {
        "SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": most // 4096 if limit == "machine" else 1 << 40}.get)
    monkeypatch.setattr("resource.getrlimit", lambda which: (
        most if limit == "process" else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    make(model, inputs_for(model, 100))
    long = Inputs("ids", np.zeros((1, 1_000_000), np.int64))
    tracemalloc.start()
    has = most // 4096 * 4096 if limit == "machine" else most
    with pytest.raises(ValueError, match=f"this machine has {has} bytes of memory, of which "
                       r"this program needs at least \d{9,}: fewer positions"):
        make(model, long)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{peak} bytes before the refusal")
    assert peak < 2 * most / 10


def test_masks_of_other_lengths_are_not_kept():
    model = SAMPLES["random-bert"]()
    programs, sizes = Programs(CONFIG, model), []
    for length in (3, 5, 9, 3):
        valid = np.arange(length) < np.array([[length], [length - 1]])
        values = np.zeros((2, length), int)
        sizes.append(programs.lower(Inputs("ids", values, valid)).memory.size)
    assert sizes[0] == sizes[-1] < sizes[2]


def test_layers_and_what_they_take():
    model = SAMPLES["random-bert"]()
    programs = Programs(CONFIG, model, layers=slice(1, 2))
    states = np.random.default_rng(0).normal(0, 1, (1, 5, 12))
    found = results(programs.lower(Inputs("states", states)))
    assert np.array_equal(found["layer 1 bf16"], results(lower(
        CONFIG, model, Inputs("states", states), layers=range(1, 2)))["layer 1 bf16"])
    with pytest.raises(ValueError, match="layers from 1 on take states, not ids"):
        programs.lower(inputs_for(model, 3))
