"""Where each figure of the pages comes from: a command, and what is taken of its output."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

__all__ = ["SOURCES", "Source", "Values"]

Values = dict[str, str | list[str]]
_SECONDS = re.compile(r"^ran in |^compiled in | in [0-9.]+ s$|, [0-9.]+ s$")
_FORMATS = ("posit8", "fp8", "bf16")
_MODES = ("pwl", "approx", "approx_shifted")


@dataclass(frozen=True)
class Source:
    """``command`` as the pages name it. ``also``: options that change none of these figures.

    ``values`` takes them from standard output. ``cheap``: seconds of work and no download, so that
    every run of the tests does it again.
    """

    command: str
    values: Callable[[str], Values]
    cheap: bool = False
    also: tuple[str, ...] = ()


def _found(pattern: str, output: str) -> re.Match[str]:
    match = re.search(pattern, output, re.MULTILINE)
    if match is None:
        raise ValueError(f"output must have {pattern!r}; it begins {output[:80]!r}")
    return match


def _grouped(text: str) -> str:
    """Digits with commas between thousands; anything else as it is."""
    return f"{int(text):,}" if text.isdigit() else text


def numbers(patterns: Mapping[str, str]) -> Callable[[str], Values]:
    """A value for each pattern: its first group."""
    return lambda output: {name: _grouped(_found(pattern, output)[1])
                           for name, pattern in patterns.items()}


def report(output: str) -> list[str]:
    """Output as a block of code, without lines that tell how long it took."""
    lines = [re.sub(r"(modelled) in [0-9.]+ s", r"\1", line) for line in output.splitlines()]
    return [f"    {line}".rstrip() for line in lines if not _SECONDS.search(line)]


def _soc(output: str) -> Values:
    _found(r"bytes compared: \d+, mismatches: 0$", output)
    return {"report": report(output)}


def _budget(output: str) -> Values:
    _found(r"^\| Verilator \| \w+ \| \d+ \|", output)
    return {"table": output.splitlines()}


def _front_ends(output: str) -> Values:
    """Warnings by tool and format; none may be an error."""
    _found(r"^front ends: 21 readings, 0 faults$", output)
    counts = {(fmt, tool): count for fmt, tool, count in re.findall(
        r"^(\w+) ([^:]+): 0 errors, (\d+) warnings", output, re.MULTILINE)}
    tools = dict.fromkeys(tool for _, tool in counts)
    return {"table": table(("warnings, errors 0", *_FORMATS), [
        (tool, *(_grouped(counts[fmt, tool]) for fmt in _FORMATS)) for tool in tools])}


def _check(output: str) -> Values:
    _found(r"^\d+ compared, 0 beyond .*; 0 below the bound$", output)
    return {"report": report(output)}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (heads, *rows)]
    return [lines[0], "|" + "---|" * len(heads), *lines[1:]]


def _short(text: str) -> str:
    """A number below 1 to four places without its 0: .0063."""
    return f"{float(text):.4f}".removeprefix("0")


def _error(output: str) -> Values:
    match = _found(r"^error of O .* mean ([0-9.]+), cosine ([0-9.]+)$", output)
    return {"error": f"{_short(match[1])} / {_short(match[2])}"}


_HEAD = {"cycles": r"^cycles: (\d+)", "use": r"utilisation ([0-9.]+)%",
         "bytes": r"^bytes compared: (\d+), mismatches: 0$"}


def _head(output: str) -> Values:
    return {**numbers(_HEAD)(output), "report": report(output)}


_GEMM = re.compile(r"^ *(\d+) +(\d+) +([\d.]+) +([\d.]+)% +\S+ +(\d+) +(\d+) +(\d+) +(\d+)$", re.M)
_RATE = re.compile(r"^ *(alone|fused) +(\d+) +(\d+) +([\d.]+) +[\d.]+ +([\d.]+)% +\S+$", re.M)


def _throughput(output: str) -> Values:
    """Both tables, and each share of what is possible alone."""
    made: Values = {}
    gemms, rates = [], []
    for size, commands, cycles, use, inputs, weights, _, ends in _GEMM.findall(output):
        made[f"gemm-{size}x{commands}"] = f"{float(use):.1f} %"
        gemms.append([size, commands, f"{float(cycles):,.0f}", f"{float(use):.1f} %",
                      f"{inputs} / {weights}", ends])
    for kind, rows, commands, cycles, share in _RATE.findall(output):
        made[f"softmax-{kind}-{rows}x{commands}"] = f"{float(share):.1f} %"
        rates.append([kind, rows, commands, f"{float(cycles):,.0f}", f"{float(share):.1f} %"])
    if not gemms or not rates:
        raise ValueError(f"output must have GEMMs and softmaxes; it begins {output[:80]!r}")
    made["gemms"] = table(["M = N = K", "commands", "cycles each", "utilisation", "array waits for "
                           "input / weights", "before, between and after"], gemms)
    made["softmaxes"] = table(["softmax", "rows", "commands", "cycles each", "share"], rates)
    return made


def _counts(output: str) -> Values:
    match = _found(r"^cycles (\d+), at the array's peak (\d+): ([0-9.]+)%", output)
    bound = _found(r"are ([0-9.]+) times as many$", output)[1]
    ratio = _found(r"^total .*% +([0-9.]+) +\w+", output)[1]
    return {"cycles": _grouped(match[1]), "peak": _grouped(match[2]),
            "use": f"{float(match[3]):.1f} %", "bound": bound, "ratio": f"{float(ratio):.2f}"}


def _cycles(output: str) -> Values:
    return _counts(output) | {"report": report(output)}


def _errors(output: str) -> Values:
    """A row of docs/numerics.md for each function with BF16 lanes."""
    made: Values = {}
    for name, largest, mean, rest in re.findall(
            r"^(\w+) +bf16 .*?max ([0-9.]+), mean ([0-9.]+) ulp(.*)$", output, re.MULTILINE):
        key = name.lower()
        made[key] = f"{largest} / {mean}"
        below = re.search(r"(\d+) beyond 1 ulp, at most ([0-9.]+)", rest)
        if below:
            made[f"{key}-below"] = (f"{below[1]} beyond 1 ulp, at most {below[2]} · 2^-9"
                                    if int(below[1]) else "none beyond 1 ulp")
    for name, lane, error in re.findall(r"^(\w+) +(\w+) .* error at most 0([0-9.]+)$", output,
                                        re.MULTILINE):
        made[f"{name.lower()}-{lane}"] = error
    largest = max(float(text) for text in re.findall(r"fp32 .*?max ([0-9.]+)", output))
    return made | {"fp32-largest": f"{largest:.2f}"}


def _scaling(output: str) -> Values:
    """Bytes by format and D; seconds are of one machine."""
    made: Values = {}
    dims = re.findall(r"D = (\d+)", output)
    for fmt, cells in re.findall(r"^\| (\w+) \w+ \|(.*)\|$", output, re.MULTILINE):
        sizes = cells.split("|")[::2]
        made |= {f"{fmt}-{dim}": size.strip() for dim, size in zip(dims, sizes, strict=True)}
    if not made:
        raise ValueError(f"output must have rows of bytes; it begins {output[:80]!r}")
    return made


def _sections(output: str) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Tables of ``synth.area`` by title and row: of each column gates, cells, ns; and ratios."""
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    title, heads = "", []
    rows: dict[str, dict[str, list[str]]] = {}
    for before, line in pairwise(output.splitlines()):
        if re.match(r" {20,}\S+ +cells +ns", line):
            title, heads = before.split(":")[0], line.split()
            rows = found[title] = {}
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
    return found


_PAIRING = "the paper's pairing"
_ROWS = {
    "decoder": ("leaves", "decoder"), "encoder": ("leaves", "encoder"),
    "MAC with psum register (BF16, FP32 for bf16)": ("leaves", "mac"),
    **{row: (_PAIRING, row) for row in ("exp", "reciprocal", "lane", "array")},
    "vector unit": (_PAIRING, "vector"), "accelerator logic": (_PAIRING, "accelerator"),
    "memory bits": (_PAIRING, "memory bits")}
_EVERY_SUM = ("bf16", "fp32", "exact", "fused")
_SUMS = {"MAC with psum register": "mac", "column": "column",
         "array and accumulation buffer, logic": "array and buffer",
         "accumulation buffer, memory bits": "memory bits"}


def _ratio(row: Mapping[str, list[str]], above: str, below: str) -> str:
    """A ratio to two places: of the areas, or as printed where these are rounded too far."""
    areas = [Decimal(row[name][0].replace(",", "")) for name in (above, below)]
    exact = areas[0] / areas[1] if min(areas) > 1000 else Decimal(row[f"{above}/{below}"][0])
    return str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))


def _area(output: str) -> Values:
    """The tables of README, and the figures of its text and of the decisions."""
    sections = _sections(output)
    if not {"leaves", "accumulators", _PAIRING} <= set(sections):
        raise ValueError(f"output must have tables of areas; it begins {output[:80]!r}")
    pairing, sums = [], []
    for label, (title, name) in _ROWS.items():
        row = sections[title][name]
        pairing.append([label, *(text for fmt in _FORMATS for text in row[fmt][::2]),
                        *(_ratio(row, fmt, "bf16") for fmt in ("posit8", "fp8"))])
    for label, name in _SUMS.items():
        row = sections["accumulators"][name]
        sums.append([label, *(text for acc in _EVERY_SUM for text in row[acc][::2]),
                     *("-" if row[acc][0] == "-" else _ratio(row, acc, "bf16")
                       for acc in _EVERY_SUM[1:])])
    made: Values = {
        "pairing": table([
            "the paper's pairing: tricks for posit8, tables for the others",
            *(text for fmt in _FORMATS for text in (fmt, "ns")), "posit8/bf16", "fp8/bf16"],
            pairing),
        "sums": table(["", *(text for acc in _EVERY_SUM for text in (acc, "ns")),
                       *(f"{acc}/bf16" for acc in _EVERY_SUM[1:])], sums)}
    for title, name in (("tables for all", "tables"), ("bit tricks for all", "tricks"),
                        (_PAIRING, "paired")):
        made[f"{name}-ratio"] = _ratio(sections[title]["accelerator"], "posit8", "fp8")
    made["lane-ratio"] = _ratio(sections[_PAIRING]["lane"], "posit8", "fp8")
    for fmt in _FORMATS:
        made[f"mac-{fmt}"], _, made[f"mac-{fmt}-ns"] = sections["leaves"]["mac"][fmt]
    made["mac-exact"] = " | ".join(sections["accumulators"]["mac"]["exact"][::2])
    made |= {f"bits-{acc}": sections["accumulators"]["memory bits"][acc][0]
             for acc in ("bf16", "fp32", "exact")}
    return made


def _units(output: str) -> Values:
    """The table of ``synth.units``: of each unit and D its gates, and their share of the whole."""
    head = _found(r"^unit +(D = .*)$", output)
    dims = re.findall(r"D = \d+", head[1])
    rows = []
    for line in output[head.end():].strip().splitlines():
        name, words = line[:22].strip(), line[22:].split()
        cells = [word for word in words if not word.endswith("%")]
        shares = [word for word in words if word.endswith("%")] or [""] * len(cells)
        rows.append([name, *(text for pair in zip(cells, shares, strict=True) for text in pair)])
    return {"table": table(["unit", *(text for dim in dims for text in (dim, ""))], rows)}


def _all_functions(output: str) -> Values:
    sections = _sections(output)
    if _PAIRING not in sections:
        raise ValueError(f"output must have tables of areas; it begins {output[:80]!r}")
    return {f"{block}-{fmt}": sections[_PAIRING][block][fmt][0]
            for block in ("lane", "accelerator") for fmt in _FORMATS}


def _embedding(output: str) -> Values:
    """The cosine of a whole model's last tensor to fp32's."""
    cosine = float(_found(r"^  pooled .* 0 differ, cosine to fp32 ([0-9.]+)$", output)[1])
    return {"cosine": f"{cosine:.4f}".removeprefix("0")}


_MODELS = "python -m sim.cycles"
_MINILM = "python -m sim.run minilm --on machine"
_EMBEDDING = "python -m sim.run minilm --tokens 32 --on machine"
_AREA = "python -m synth.area --library osu018"
_RUNS = {
    "digits": "digits-vit", "digits-bf16": "digits-vit --fmt bf16",
    "bert-tiny": "bert-tiny --tokens 32", "bert-tiny-bf16": "bert-tiny --tokens 32 --fmt bf16",
    "minilm-layer": "minilm --tokens 32 --layers 0:1",
    "smollm2-layer": "smollm2 --layers 0:1 --tokens 12 --decode 1"}

SOURCES: dict[str, Source] = {
    "head": Source("python -m sim.demo --fmt posit8", _head),
    "heads-128": Source("python -m sim.demo --fmt posit8 --tokens 128 --all-heads", _head),
    **{f"head-{fmt}-{mode}": Source(f"python -m sim.demo --fmt {fmt} --softmax {mode}", _error,
                                    also=("--on", "machine"))
       for fmt in _FORMATS for mode in _MODES},
    "soc": Source("python examples/soc/run.py", _soc),
    "budget": Source("python -m synth.front_ends --budget", _budget, cheap=True),
    "front-ends": Source("python -m synth.front_ends", _front_ends),
    "throughput": Source("python -m sim.throughput", _throughput),
    "bert-base-layer": Source(f"{_MODELS} bert-base --layers 1:2", _cycles, cheap=True),
    **{f"llama-layer-{bits}": Source(
        f"{_MODELS} llama-3.2-1b --layers 1:2 --tokens 512 --dim 32 --lanes 32 "
        f"--bus-bytes {bits // 8}", _cycles) for bits in (256, 512)},
    **{name: Source(f"{_MODELS} {options}", _counts) for name, options in _RUNS.items()},
    "cycles-check": Source(f"{_MODELS} --check --dim 4", _check),
    **{f"fusion-{fmt}-{mode}-{level}": Source(
        f"{_EMBEDDING} --fmt {fmt} --softmax {mode} --fusion {level}", _embedding)
       for fmt in ("posit8", "posit8es2", "fp8", "bf16") for mode in ("pwl", "approx_shifted")
       for level in ("none", "scaling", "activation", "norm", "residual")},
    **{f"length-{mode}-{tokens}": Source(
        f"{_MINILM} --tokens {tokens} --softmax {mode}", _embedding)
       for mode in ("pwl", "linear", "approx", "approx_shifted") for tokens in (32, 128, 512)},
    **{f"sums-{acc}": Source(
        f"{_MINILM} --tokens 128 --softmax pwl --acc {acc}", _embedding)
       for acc in _EVERY_SUM},
    "area": Source(_AREA, _area),
    "area-all": Source(f"{_AREA} --functions all", _all_functions,
                       also=("--block", "lane", "accelerator")),
    "units": Source("python -m synth.units", _units),
    "functions": Source("python tools/function_errors.py", _errors, cheap=True),
    "scaling": Source("python -m gen.scaling --fmt posit8 bf16", _scaling),
}
