import pytest
from test_layers import graph

from sim.campaigns import sources
from sim.campaigns.accuracy import measure
from sim.campaigns.study import measure as study


def test_digests_ignore_what_computes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.py"
    monkeypatch.setattr(sources, "_ROOT", tmp_path)
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\n# why\nx = 1\n', '"""One."""\nx = 2\n'):
        path.write_text(text)
        digests.append(sources.digest_of.__wrapped__(("a.py",)))
    assert digests[0] == digests[1] != digests[2]


def test_every_source_of_a_result_is_there():
    every = (measure._SOURCES, measure._PRIOR, study._SOURCES)
    assert len({sources.digest_of(own) for own in every}) == 3


@pytest.mark.parametrize("module, names", [
    ("compute", measure._SOURCES), ("prior", measure._PRIOR)])
def test_what_computes_a_cell_of_accuracy_is_among_its_sources(module, names):
    """All that it imports of the parts that compute."""
    edges, found = graph(), set[str]()
    todo = [f"sim.campaigns.accuracy.{module}"]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += edges[one]
    parts = ("sim.model.", "sim.verify.", "compiler.training.gradients.")
    used = {f"{one.replace('.', '/')}.py" for one in found if one.startswith(parts)}
    assert len(used) > 10
    assert [one for one in sorted(used) if not one.startswith(names)] == []
