"""Figures of areas and powers: from the tables that commands of ``synth`` print."""

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

from tools.figure_values import FORMATS, Values, found, table

__all__ = ["EVERY_SUM", "all_functions", "area_values", "paper_values", "power_values",
           "unit_values"]

_PAIRING = "the paper's pairing"
_ROWS = {
    "decoder": ("leaves", "decoder"), "encoder": ("leaves", "encoder"),
    "MAC with psum register (BF16, FP32 for bf16)": ("leaves", "mac"),
    **{row: (_PAIRING, row) for row in ("exp", "reciprocal", "lane", "array")},
    "vector unit": (_PAIRING, "vector"), "accelerator logic": (_PAIRING, "accelerator"),
    "memory bits": (_PAIRING, "memory bits")}
EVERY_SUM = ("bf16", "fp32", "exact", "fused")
_SUMS = {"MAC with psum register": "mac", "column": "column",
         "array and accumulation buffer, logic": "array and buffer",
         "accumulation buffer, memory bits": "memory bits"}


def _sections(output: str) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Tables of ``synth.area`` by title and row: of each column gates, cells, ns; and ratios."""
    tables: dict[str, dict[str, dict[str, list[str]]]] = {}
    title, heads = "", []
    rows: dict[str, dict[str, list[str]]] = {}
    for before, line in pairwise(output.splitlines()):
        if re.match(r" {20,}\S+ +cells +ns", line):
            title, heads = before.split(":")[0], line.split()
            rows = tables[title] = {}
        elif title and line.strip():
            columns = [head for at, head in enumerate(heads) if at + 1 < len(heads)
                       and heads[at + 1] == "cells"]
            cells = [line[26 + 28 * at:54 + 28 * at] for at in range(len(columns))]
            rest = line[26 + 28 * len(columns):].split()
            rows[line[:26].strip()] = {
                **{name: [cell[:11].strip(), cell[11:22].strip(), cell[22:].strip()]
                   for name, cell in zip(columns, cells, strict=True)},
                **{name: [value] for name, value in zip(heads[3 * len(columns):], rest,
                                                        strict=True)}}
        else:
            title = ""
    return tables


def _ratio(row: Mapping[str, list[str]], above: str, below: str) -> str:
    """A ratio to two places: of the areas, or as printed where these are rounded too far."""
    areas = [Decimal(row[name][0].replace(",", "")) for name in (above, below)]
    exact = areas[0] / areas[1] if min(areas) > 1000 else Decimal(row[f"{above}/{below}"][0])
    return str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))


def area_values(output: str) -> Values:
    """The tables of README, and the figures of its text and of the decisions."""
    sections = _sections(output)
    if not {"leaves", "accumulators", _PAIRING} <= set(sections):
        raise ValueError(f"output must have tables of areas; it begins {output[:80]!r}")
    pairing, sums = [], []
    for label, (title, name) in _ROWS.items():
        row = sections[title][name]
        pairing.append([label, *(text for fmt in FORMATS for text in row[fmt][::2]),
                        *(_ratio(row, fmt, "bf16") for fmt in ("posit8", "fp8"))])
    for label, name in _SUMS.items():
        row = sections["accumulators"][name]
        sums.append([label, *(text for acc in EVERY_SUM for text in row[acc][::2]),
                     *("-" if row[acc][0] == "-" else _ratio(row, acc, "bf16")
                       for acc in EVERY_SUM[1:])])
    made: Values = {
        "pairing": table([
            "the paper's pairing: tricks for posit8, tables for the others",
            *(text for fmt in FORMATS for text in (fmt, "ns")), "posit8/bf16", "fp8/bf16"],
            pairing),
        "sums": table(["", *(text for acc in EVERY_SUM for text in (acc, "ns")),
                       *(f"{acc}/bf16" for acc in EVERY_SUM[1:])], sums)}
    for title, name in (("tables for all", "tables"), ("bit tricks for all", "tricks"),
                        (_PAIRING, "paired")):
        made[f"{name}-ratio"] = _ratio(sections[title]["accelerator"], "posit8", "fp8")
    made["lane-ratio"] = _ratio(sections[_PAIRING]["lane"], "posit8", "fp8")
    for fmt in FORMATS:
        made[f"mac-{fmt}"], _, made[f"mac-{fmt}-ns"] = sections["leaves"]["mac"][fmt]
    made["mac-exact"] = " | ".join(sections["accumulators"]["mac"]["exact"][::2])
    made |= {f"bits-{acc}": sections["accumulators"]["memory bits"][acc][0]
             for acc in ("bf16", "fp32", "exact")}
    return made


def unit_values(output: str) -> Values:
    """The table of ``synth.units``: of each unit and D its gates, and their share of the whole."""
    head = found(r"^unit +(D = .*)$", output)
    dims = re.findall(r"D = \d+", head[1])
    rows = []
    for line in output[head.end():].strip().splitlines():
        name, words = line[:22].strip(), line[22:].split()
        cells = [word for word in words if not word.endswith("%")]
        shares = [word for word in words if word.endswith("%")] or [""] * len(cells)
        rows.append([name, *(text for pair in zip(cells, shares, strict=True) for text in pair)])
    return {"table": table(["unit", *(text for dim in dims for text in (dim, ""))], rows)}


def all_functions(output: str) -> Values:
    sections = _sections(output)
    if _PAIRING not in sections:
        raise ValueError(f"output must have tables of areas; it begins {output[:80]!r}")
    return {f"{block}-{fmt}": sections[_PAIRING][block][fmt][0]
            for block in ("lane", "accelerator") for fmt in FORMATS}


_UNIT_HEADS = ["inside cells", "on nets", "at inputs", "pJ a cycle", "glitches",
               "cells alone", "by OpenSTA", ""]
_WHOLE_HEADS = ["pJ a MAC", "with glitches", "mW at 50 MHz", "cells alone, pJ a cycle",
                "by OpenSTA", "", "/bf16", "by OpenSTA", "with glitches"]


def power_values(output: str) -> Values:
    """Of ``synth.power`` a table of units as published, and of each pairing one of wholes."""
    made: Values = {"words": found(r"^words compared with the models: ([\d,]+), mismatches: 0$",
                                   output)[1]}
    parts = re.split(r"^(as published|fair): .*$", output, flags=re.MULTILINE)[1:]
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        units, wholes = text.split("\nwhole", 1)
        rows = [line.split() for line in units.splitlines() if line[:6].strip()]
        made[f"{title.split()[-1]}-units"] = table(["", "cells", *_UNIT_HEADS], [
            [f"{row[0]} {row[1]}", row[2], *row[4:9], *row[11:14]] for row in rows])
        rows = [line.split() for line in wholes.splitlines()[1:] if line.startswith(FORMATS)]
        made[title.split()[-1]] = table(["", "softmax", *_WHOLE_HEADS], [
            [row[0], row[1], *row[3:]] for row in rows])
        for row in rows:
            made[f"{title.split()[-1]}-{row[0]}"] = f"{100 * float(row[9]) - 100:+.0f} %"
    return made


_CLOCKS = (r"^clocks: relaxed ([\d.]+) ns, nominal ([\d.]+) ns, tight ([\d.]+) ns; "
           r"FO4 (\d+) ps")


def paper_values(output: str) -> Values:
    """Of ``synth.paper`` the tables of units, of wholes and of claims, and each claim's parts."""
    clocks = found(_CLOCKS, output)
    _, units, _, wholes, claims = output.split("\n\n")[:5]
    rows = [[line[:34].strip(), *(text for at in range(3) for text in (
        line[34 + 19 * at:43 + 19 * at].strip(), line[43 + 19 * at:53 + 19 * at].strip())),
        " / ".join(line[91:].split())] for line in units.splitlines()[1:]]
    made: Values = {"units": table(["", "relaxed", "ns", "nominal", "ns", "tight", "ns",
                                    "paper, 10³ µm²"], rows)}
    made |= dict(zip(("relaxed", "nominal", "tight", "fo4"), clocks.groups(), strict=True))
    head, *lines = wholes.splitlines()
    clocks_of = head.removesuffix("memory bits").split()
    made["wholes"] = table(["", *clocks_of, "memory bits"], [
        [line[:42].strip(), *[*line[42:].split(), ""][:len(clocks_of) + 1]] for line in lines])
    judged, parts = [], []
    for line in claims.splitlines()[2:]:
        if not line.startswith(" "):
            judged.append([line[:46].strip(), line[46:53].strip(), line[53:67].strip(),
                           line[67:74].strip(), line[74:].strip()])
        else:
            pairing, _, text = line.strip().partition(": ")
            if pairing in ("as published", "fair"):
                parts.append([judged[-1][0], pairing, text])
    made["claims"] = table(["claim", "paper", "as published", "fair", "verdict"], judged)
    made["parts"] = table(["claim", "pairing", "points of what it is compared with, by part"],
                          parts)
    return made
