"""Text tables of areas: gate-equivalents, cells and delay of each column, then the ratios."""

from collections.abc import Sequence

__all__ = ["render"]

_RATIOS = (("posit8", "bf16"), ("fp8", "bf16"), ("posit8", "fp8"),
           ("fp32", "bf16"), ("exact", "bf16"), ("exact", "fp32"),
           ("fused", "bf16"), ("fused", "fp32"))


def _number(value: float) -> str:
    return f"{value:,.0f}"


def render(tables: Sequence[dict], formats: Sequence[str]) -> str:
    """The tables of ``synth.area`` as text, one column per format unless the table has its own
    ``columns``; a ratio stands where both of its columns do,
    and "-" where a column has no such block."""
    return "\n".join(line for table in tables
                     for line in _lines(table, table.get("columns", formats)))


def _lines(table: dict, columns: Sequence[str]) -> list[str]:
    ratios = [(above, below) for above, below in _RATIOS
              if above in columns and below in columns]
    head = f"{'':26}" + "".join(f"{column:>11}{'cells':>11}{'ns':>6}" for column in columns)
    head += "".join(f"{above + '/' + below:>13}" for above, below in ratios)
    lines = ["", table["title"], head]
    for row in table["rows"]:
        line = f"{row['block']:26}"
        for column in columns:
            delay = row["delay"].get(column)
            shown = "" if delay is None else f"{delay:.1f}"
            cells = f"{row['cells'][column]:,}" if column in row["cells"] else ""
            gates = row["gates"].get(column)
            line += f"{'-' if gates is None else _number(gates):>11}{cells:>11}{shown:>6}"
        for above, below in ratios:
            both = above in row["gates"] and below in row["gates"]
            ratio = f"{row['gates'][above] / row['gates'][below]:.3f}" if both else "-"
            line += f"{ratio:>13}"
        lines.append(line)
    return lines
