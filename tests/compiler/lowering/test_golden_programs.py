"""Programs that must stay to the byte as they were."""

from dataclasses import replace

from tools import golden_programs


def test_programs_are_those_of_the_file():
    stored, cases = golden_programs.known(), golden_programs.cases()
    assert sorted(stored) == sorted(cases) and len(cases) > 400
    wrong = [name for name, lowered in cases.items()
             if golden_programs.digest(lowered()) != stored[name]]
    assert not wrong, f"{len(wrong)} of {len(cases)} programs differ, first {wrong[0]}"


def test_a_digest_holds_memory_and_results():
    program = golden_programs.cases()["bert 5, posit8, none"]()
    memory = program.memory.copy()
    memory[-1] ^= 1
    changed = [replace(program, image=replace(program.image, memory=memory)),
               replace(program, image=replace(program.image, address=program.address + 64)),
               replace(program, results=dict(list(program.results.items())[1:]))]
    found = {golden_programs.digest(item) for item in (program, *changed)}
    assert len(found) == 4
