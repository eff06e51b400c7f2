from sim.campaigns import sources


def test_digests_ignore_what_computes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.py"
    monkeypatch.setattr(sources, "_ROOT", tmp_path)
    digests = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\n# why\nx = 1\n', '"""One."""\nx = 2\n'):
        path.write_text(text)
        digests.append(sources.digest_of.__wrapped__(("a.py",)))
    assert digests[0] == digests[1] != digests[2]


def test_every_source_of_a_result_is_there():
    from sim.campaigns.accuracy import measure
    from sim.campaigns.study import measure as study

    assert len({sources.digest_of(own) for own in (measure._SOURCES, study._SOURCES)}) == 2
