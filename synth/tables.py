"""Text tables of areas: gate-equivalents, cells and delay of each format, then the ratios."""

from collections.abc import Sequence

__all__ = ["render"]

_RATIOS = (("posit8", "bf16"), ("fp8", "bf16"), ("posit8", "fp8"))


def _number(value: float) -> str:
    return f"{value:,.0f}"


def render(tables: Sequence[dict], formats: Sequence[str]) -> str:
    """The tables of ``synth.area.tables`` as text; a ratio stands where both formats do."""
    ratios = [(above, below) for above, below in _RATIOS
              if above in formats and below in formats]
    head = f"{'':26}" + "".join(f"{fmt:>11}{'cells':>11}{'ns':>6}" for fmt in formats)
    head += "".join(f"{above + '/' + below:>13}" for above, below in ratios)
    lines = []
    for table in tables:
        lines += ["", table["title"], head]
        for row in table["rows"]:
            line = f"{row['block']:26}"
            for fmt in formats:
                delay = row["delay"].get(fmt)
                shown = "" if delay is None else f"{delay:.1f}"
                cells = f"{row['cells'][fmt]:,}" if fmt in row["cells"] else ""
                line += f"{_number(row['gates'][fmt]):>11}{cells:>11}{shown:>6}"
            for above, below in ratios:
                line += f"{row['gates'][above] / row['gates'][below]:>13.3f}"
            lines.append(line)
    return "\n".join(lines)
