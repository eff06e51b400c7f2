"""Tables of figures, as lines of Markdown."""

from collections.abc import Iterator, Mapping, Sequence

from compiler.lowering.fusion import FUSION_LEVELS
from sim.campaigns.accuracy.cells import PLAIN, Cell, Table
from sim.campaigns.accuracy.figures import Entry, cell_of

__all__ = ["label_of", "lines", "place_of"]

_SAYS = {"spearman": "correlation of ranks of cosines with what people said / error of the "
                     "embeddings",
         "accuracy": "accuracy / decisions that differ from fp32's / error of the logits",
         "perplexity": "perplexity / likeliest next tokens that differ from fp32's, of all / root "
                       "mean square of the losses' differences, in nats"}


def lines(table: Table, titles: Mapping[str, str], entries: Sequence[Entry]) -> Iterator[str]:
    """A part for each task and length of its texts."""
    parts: dict[tuple[str, int | None], dict[Cell, Entry]] = {}
    for entry in entries:
        cell = cell_of(entry)
        tokens = None if "tokens" in (*table.rows, *table.columns) else cell.tokens
        parts.setdefault((cell.task, tokens), {})[cell] = entry
    for number, ((task, tokens), own) in enumerate(parts.items()):
        if number:
            yield ""
        length = f", {tokens} tokens" if tokens else ""
        yield from _caption(f"{titles[task]}{length}", own)
        yield ""
        yield from _grid(table, own)


def _caption(title: str, entries: Mapping[Cell, Entry]) -> Iterator[str]:
    plain = [entry for cell, entry in entries.items() if cell.fmt == PLAIN]
    metric = next(iter(entries.values()))["metric"]
    if len(plain) == 1:
        own, = plain
        error = (f"; one standard error {_short(own, 'standard_error')}"
                 if "standard_error" in own else "")
        title += (f": fp32 {_short(own)} (95 %: {_short(own, 'low')} to {_short(own, 'high')}"
                  f"{error}), n = {own['n']:,}")
    elif all("standard_error" in own for own in plain) and plain:
        worst = max(plain, key=lambda own: own["standard_error"])
        title += f": n = {worst['n']:,} each, one standard error {_short(worst, 'standard_error')}"
    yield f"{title}; {_SAYS[metric]}."


def _grid(table: Table, entries: Mapping[Cell, Entry]) -> Iterator[str]:
    several = sum(cell.fmt == PLAIN for cell in entries) > 1
    shown = {cell: entry for cell, entry in entries.items() if several or cell.fmt != PLAIN}
    columns = sorted(dict.fromkeys(label_of(cell, table.columns) for cell in shown), key=place_of)
    grid: dict[str, dict[str, Entry]] = {}
    for cell, entry in shown.items():
        row = PLAIN if cell.fmt == PLAIN else label_of(cell, table.rows)
        grid.setdefault(row, {})[label_of(cell, table.columns)] = entry
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for label, found in grid.items():
        yield f"| {label} | {' | '.join(_shown(found.get(column)) for column in columns)} |"


def label_of(cell: Cell, names: Sequence[str]) -> str:
    """What the fields ``names`` of a cell are, in words."""
    found = []
    for name in names:
        value = getattr(cell.config, name) if name == "acc" else getattr(cell, name)
        if name in ("epsilon", "theta") and value is not None:
            value = f"{'ε' if name == 'epsilon' else 'θ'} {value / 128:g}"
        if name == "reciprocal" and value is not None:
            value = f"1/x of {value}"
        found += [] if value is None else [str(value)]
    return ", ".join(found)


def place_of(label: str) -> tuple[int, int]:
    """Fusion levels in their order, numbers in theirs, others as they come."""
    names = list(FUSION_LEVELS)
    return (names.index(label) if label in names else 0, int(label) if label.isdigit() else 0)


def _shown(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    if "error" not in entry:
        return _short(entry)
    if entry["metric"] == "perplexity":
        return f"{_short(entry)} / {entry['flips']} / {entry['error']:.3f}"
    if "shift" in entry:
        return (f"{_short(entry)} / {entry['flips']} / {100 * entry['error']:.2f} %, "
                f"{100 * entry['shift']:.2f} % the same for all")
    changed = "" if entry["flips"] is None else f" / {entry['flips']}"
    return f"{_short(entry)}{changed} / {100 * entry['error']:.2f} %"


def _short(entry: Entry, name: str = "value") -> str:
    """.7242 of a share, else two digits behind the point."""
    value = entry[name]
    if entry["metric"] == "perplexity":
        return f"{value:.2f}"
    return f"{value:.4f}".removeprefix("0")
