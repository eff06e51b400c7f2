"""Figures as SVG: what tables say of errors, and the digits that formats keep."""

from collections.abc import Mapping, Sequence

from sim.campaigns.accuracy.cells import PLAIN, TABLES, Table
from sim.campaigns.accuracy.chart import Axis, chart
from sim.campaigns.accuracy.figures import Entry, cell_of
from sim.campaigns.accuracy.ranges import ranges
from sim.campaigns.accuracy.report import label_of, place_of

__all__ = ["drawings"]


def drawings(record: Mapping[str, Sequence[Entry]], titles: Mapping[str, str]) -> dict[str, str]:
    """By name, of each table that is drawn its first task, and of the formats."""
    found = {name: _of_table(TABLES[name], entries, titles) for name, entries in record.items()
             if name in TABLES and TABLES[name].drawn}
    return found | {"ranges": chart(
        "Decimal digits that a rounding keeps at least", Axis("magnitude", log=True),
        Axis("decimal digits"), ranges(), marks=False)}


def _of_table(table: Table, entries: Sequence[Entry], titles: Mapping[str, str]) -> str:
    """The error of each row over the columns."""
    cells = [(cell_of(entry), entry) for entry in entries]
    task = cells[0][0].task
    own = [(cell, entry) for cell, entry in cells if cell.task == task and cell.fmt != PLAIN]
    columns = sorted({label_of(cell, table.columns) for cell, _ in own}, key=place_of)
    series: dict[str, list[tuple[float, float]]] = {}
    for cell, entry in own:
        place = columns.index(label_of(cell, table.columns))
        series.setdefault(label_of(cell, table.rows), []).append((place, 100 * entry["error"]))
    return chart(titles[task], Axis(", ".join(table.columns), tuple(columns)),
                 Axis("error of the logits, %", log=True),
                 {name: sorted(points) for name, points in series.items()})
