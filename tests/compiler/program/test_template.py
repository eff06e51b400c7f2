import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from compiler.program.records import commands
from compiler.program.template import Template, fit
from hdl.spec.config import AcceleratorConfig

CONFIG = AcceleratorConfig("posit8", dim=4)
VARIABLES = {"past": range(2, 9), "last": range(4)}


def lowered(past, last, wrong=0):
    """Keys of ``past`` positions times a query, then a row of eight."""
    builder = ProgramBuilder(CONFIG)
    keys, query = builder.empty(8, 4, name="keys"), builder.empty(1, 4, name="query")
    scores = builder.empty(1, 8, name="scores")
    rows, out = builder.empty(4, 8, name="rows"), builder.empty(1, 8, name="out")
    if past > wrong:
        builder.gemm(query, keys.block(0, 0, past, 4), scores.block(0, 0, 1, past),
                     b_transposed=True)
    builder.vector(rows.block(last, 0, 1, 8), out)
    if past == 8:
        builder.fence()
    builder.end()
    return builder


def template(address=0):
    return Template(address, VARIABLES, *fit(
        VARIABLES, lambda **values: lowered(**values).commands))


def test_every_value_gives_the_commands_that_are_lowered_for_it():
    builder = lowered(8, 3)
    memory, address = builder.build()
    made, seen = template(address), set()
    assert {(one.field, one.slopes) for one in made.varying} == {
        ("n", (1, 0)), ("a_address", (0, 8))}
    for past in VARIABLES["past"]:
        for last in VARIABLES["last"]:
            made.write(memory, past=past, last=last)
            found = [fields for _, fields in commands(memory, address)]
            other = lowered(past, last).build()
            wanted = [fields for _, fields in commands(*other)]
            fences = [f for f in found if f["opcode"] == builder.commands[2]["opcode"]]
            assert len(fences) == 1  # that of the most positions stays
            assert [f for f in found if f not in fences] == [
                f for f in wanted if f not in fences]
            seen.add(memory.tobytes())
    assert len(seen) == 28


def test_patches_say_what_a_host_writes():
    builder = lowered(8, 3)
    memory, address = builder.build()
    made, plain = template(address), memory.copy()
    for patch in made.patches():
        value = patch["base"] + 5 * patch["adds"]["past"] + 2 * patch["adds"]["last"]
        assert patch["bit"] == 0 and patch["bits"] % 32 == 0
        plain[patch["address"]:][:patch["bits"] // 8] = np.frombuffer(
            value.to_bytes(patch["bits"] // 8, "little"), np.uint8)
    made.write(memory, past=5, last=2)
    assert np.array_equal(memory, plain) and len(made.patches()) == 2


@pytest.mark.parametrize("values", [{"past": 1, "last": 0}, {"past": 9, "last": 0}, {"past": 2},
                                    {"past": 2, "last": 4}])
def test_what_a_program_does_not_take(values):
    memory, address = lowered(8, 3).build()
    before = memory.copy()
    with pytest.raises(ValueError, match="past from 2 to 8, last from 0 to 3 does not take"):
        template(address).write(memory, **values)
    assert np.array_equal(memory, before)


def test_what_is_not_linear_is_refused():
    def bent(past, last):
        return [dict(fields) | ({"k": past * past} if fields["opcode"] == 1 else {})
                for fields in lowered(past, last).commands]

    with pytest.raises(ValueError, match="must be linear"):
        fit(VARIABLES, bent)
    with pytest.raises(ValueError, match="must have 3 commands, not 2"):
        fit(VARIABLES, lambda past, last: lowered(past, last, wrong=4).commands)
