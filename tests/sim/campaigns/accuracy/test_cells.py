from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints.samples import llama
from compiler.training.gradients.network import Batch, logits_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Weights
from hdl.spec.formats import format_named
from sim.campaigns.accuracy.cells import PLAIN, TABLES, Cell
from sim.campaigns.accuracy.figures import cell_of, entry_of
from sim.campaigns.accuracy.report import lines
from sim.campaigns.accuracy.tasks import TASKS, Task


def test_every_table_asks_of_builds_that_there_are():
    for table in TABLES.values():
        cells = list(table.cells())
        assert len(set(cells)) == len(cells) >= 4
        assert {cell.plain for cell in cells} <= set(cells)  # what each is compared with
        for cell in cells:
            assert cell.task in TASKS and cell.config.fmt and cell.level >= 0
        names = [str(cell) for cell in cells]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("changes, message", [
    ({"fmt": "int3"}, "format must be one of .*, not 'int3'"),
    ({"acc": "fp64"}, "acc must be one of .*, not 'fp64'"),
    ({"softmax": "exact"}, "softmax must be one of .*, not 'exact'")])
def test_builds_that_there_are_not(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Cell("digits"), **changes).config.hash  # noqa: B018
    with pytest.raises(ValueError, match="fusion must be one of"):
        Cell("digits", fusion="all").level  # noqa: B018


CLASSES = Task("digits", "digits-vit", "accuracy", (), np.array([0, 1, 1, 0]), "")
TEXT = Task("text", "smollm2", "perplexity", (), np.zeros(2), "")


def test_figures_of_decisions():
    plain = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])
    rows = plain + np.array([[0.0, 3.0], [5.0, 5.0], [0, 0], [0, 0]])  # one is decided otherwise
    entry = entry_of(Cell("digits"), CLASSES, rows, plain)
    assert (entry["n"], entry["value"], entry["flips"]) == (4, 0.5, 1)
    assert entry["low"] < 0.5 < entry["high"] and entry["standard_error"] == 0.25
    # ±1.5 off, over ±1, ±½, ±½ and ±1½: what a row has on both sides changes nothing.
    assert entry["error"] == pytest.approx((1.5 ** 2 / (1 + 0.25 + 0.25 + 2.25)) ** 0.5, rel=1e-5)
    other = entry_of(Cell("digits"), CLASSES, np.nextafter(rows, 9), plain)
    assert other["digest"] != entry["digest"] and other["value"] == entry["value"]
    assert cell_of(entry) == Cell("digits")
    assert "digest" not in entry_of(Cell("digits", PLAIN), CLASSES, plain, plain)


def test_figures_of_text():
    plain = np.array([[np.log(2), np.log(2), 5, 6], [np.log(4), np.log(4), 7, 8]])
    rows = plain + np.array([[0.5, 0, 0, 1], [0, 0, 0, 0]])
    entry = entry_of(Cell("text"), TEXT, rows, plain)
    assert entry["value"] == pytest.approx(8 ** 0.5 * np.exp(0.125), rel=1e-5)
    assert (entry["flips"], entry["error"], entry["n"]) == (1, 0.25, 2)


def test_what_all_rows_share_of_an_error():
    plain = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])
    cell = Cell("digits", "bf16", scheme="posit8 of gains")
    moved = entry_of(cell, CLASSES, plain + np.array([0.5, 0.0]), plain)
    assert moved["shift"] == moved["error"] > 0
    other = entry_of(cell, CLASSES, plain + np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]), plain)
    assert other["shift"] == 0 < other["error"]
    assert "shift" not in entry_of(Cell("digits"), CLASSES, plain, plain)


def test_parameters_that_are_rounded_alone():
    from sim.campaigns.accuracy.prior import _OPERANDS, _PARTS

    chosen = {cell.scheme.partition(" of ")[2] for name in ("parameters", "text-parts")
              for cell in TABLES[name].cells() if cell.scheme is not None}
    assert chosen == set(_PARTS) | set(_OPERANDS)
    names = ("embedding.segment", "embedding.table", "embedding.norm.gain", "blocks.0.up.weight",
             "blocks.0.up.bias", "embedding.positions", "embedding.norm.shift")
    taken = {part: [name for name in names if of(name)] for part, of in _PARTS.items()}
    assert taken == {"segment row": ["embedding.segment"], "gains": ["embedding.norm.gain"],
                     "other embeddings": ["embedding.table", "embedding.positions"],
                     "the table": ["embedding.table"],
                     "matrices": ["blocks.0.up.weight"]}


def test_operands_are_told_apart_by_their_order():
    """Each of a small decoder's is rounded by one part, and by no other."""
    from sim.campaigns.accuracy.prior import _OPERANDS, _STORED, _Operands

    model = llama(layers=2)
    encoding = format_named("e4m3").encodings[0]
    weights, batch = Weights(parameters(model), Exact()), Batch(
        np.random.default_rng(0).integers(0, 40, (1, 7)), np.zeros(1, int))

    class Named(_Operands):
        def stored(self, x):
            layer, place = divmod(self.count, len(_STORED))
            shapes.append((_STORED[place] if layer < 2 else "what the head reads", x.shape[-1]))
            return super().stored(x)

    rows = {}
    for part, chosen in _OPERANDS.items():
        shapes = []
        rows[part] = logits_of(model, weights, Named(encoding, 2, chosen), batch)
        assert [width for name, width in shapes if name == "gated products"] == [24, 24]
        assert [width for name, width in shapes if name == "probabilities"] == [7, 7]
        assert shapes[-1] == ("what the head reads", 16) and len(shapes) == 17
    plain = logits_of(model, weights, Exact(), batch)
    assert all(0 < np.abs(own - plain).max() < 2 for own in rows.values())
    assert len({own.tobytes() for own in rows.values()}) == 3


def test_figures_of_pairs():
    scores = np.array([[1, 0.9, 0.1], [0.9, 1, 0.5], [0.1, 0.5, 1]])
    task = Task("documents", "minilm", "spearman", (), scores, "")
    plain = np.array([[1.0, 0.1], [0.9, 0.4], [0.1, 1.0]])
    entry = entry_of(Cell("documents"), task, plain[:, ::-1], plain)
    assert (entry["value"], entry["n"], entry["flips"]) == (1.0, 3, None)
    assert entry["error"] > 1
    other = entry_of(Cell("documents"), task, plain[[0, 2, 1]], plain)
    assert other["value"] == -1.0


def test_a_table_has_each_cell_in_its_place():
    plain = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 0.0]])
    cells = [Cell("digits", PLAIN), Cell("digits", "bf16"), Cell("digits", fusion="none"),
             Cell("digits", "bf16", fusion="none")]
    entries = [entry_of(cell, CLASSES, plain, plain) for cell in cells]
    found = list(lines(TABLES["formats-digits"], {"digits": "images"}, entries))
    right = ".7500 / 0 / 0.00 %"
    assert found[0].startswith("images: fp32 .7500 (95 %: .3006 to .9544; one standard error .2165"
                               "), n = 4; accuracy / ")
    assert found[1:] == ["", "| | none | residual |", "|---|---|---|",
                         f"| bf16 | {right} | {right} |", f"| posit8 | {right} | – |"]
