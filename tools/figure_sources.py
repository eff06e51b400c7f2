"""Where each figure of the pages comes from: a command, and what is taken of its output."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tools.figure_areas import (
    EVERY_SUM,
    all_functions,
    area_values,
    paper_values,
    power_values,
    unit_values,
)
from tools.figure_values import FORMATS, Values, found, grouped, numbers, report, table

__all__ = ["SOURCES", "Source"]

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


def _soc(output: str) -> Values:
    found(r"bytes compared: \d+, mismatches: 0$", output)
    return {"report": report(output)}


def _crossings(output: str) -> Values:
    found(r"^\d+ crossings, \d+ bits, 0 faults$", output)
    return {"report": report(output)}


def _budget(output: str) -> Values:
    found(r"^\| Verilator \| \w+ \| \d+ \|", output)
    return {"table": output.splitlines()}


def _front_ends(output: str) -> Values:
    """Warnings by tool and format; none may be an error."""
    found(r"^front ends: 21 readings, 0 faults$", output)
    counts = {(fmt, tool): count for fmt, tool, count in re.findall(
        r"^(\w+) ([^:]+): 0 errors, (\d+) warnings", output, re.MULTILINE)}
    tools = dict.fromkeys(tool for _, tool in counts)
    return {"table": table(("warnings, errors 0", *FORMATS), [
        (tool, *(grouped(counts[fmt, tool]) for fmt in FORMATS)) for tool in tools])}


def _check(output: str) -> Values:
    found(r"^\d+ compared, 0 beyond .*; 0 below the bound$", output)
    return {"report": report(output)}


def _short(text: str) -> str:
    """A number below 1 to four places without its 0: .0063."""
    return f"{float(text):.4f}".removeprefix("0")


def _error(output: str) -> Values:
    match = found(r"^error of O .* mean ([0-9.]+), cosine ([0-9.]+)$", output)
    return {"error": f"{_short(match[1])} / {_short(match[2])}"}


_HEAD = {"cycles": r"^cycles: (\d+)", "use": r"utilisation ([0-9.]+)%",
         "bytes": r"^bytes compared: (\d+), mismatches: 0$"}


def _head(output: str) -> Values:
    return {**numbers(_HEAD)(output), "report": report(output)}


_GEMM = re.compile(r"^ *(\d+) +(\d+) +([\d.]+) +[\d.]+ +([\d.]+)% +\S+ +(\d+) +(\d+) +\d+ +(\d+)$",
                   re.M)
_RATE = re.compile(r"^ *(alone|fused) +(\d+) +(\d+) +([\d.]+) +[\d.]+ +[\d.]+ +([\d.]+)% +\S+$",
                   re.M)


def _throughput(output: str) -> Values:
    """Both tables, or that of GEMMs alone, and each share of what is possible."""
    made: Values = {}
    gemms, rates = [], []
    for size, commands, cycles, use, inputs, weights, ends in _GEMM.findall(output):
        made[f"gemm-{size}x{commands}"] = f"{float(use):.1f} %"
        gemms.append([size, commands, f"{float(cycles):,.0f}", f"{float(use):.1f} %",
                      f"{inputs} / {weights}", ends])
    for kind, rows, commands, cycles, share in _RATE.findall(output):
        made[f"softmax-{kind}-{rows}x{commands}"] = f"{float(share):.1f} %"
        rates.append([kind, rows, commands, f"{float(cycles):,.0f}", f"{float(share):.1f} %"])
    if not gemms:
        raise ValueError(f"output must have GEMMs; it begins {output[:80]!r}")
    made["gemms"] = table(["M = N = K", "commands", "cycles each", "utilisation", "array waits for "
                           "input / weights", "before, between and after"], gemms)
    if rates:
        made["softmaxes"] = table(["softmax", "rows", "commands", "cycles each", "share"], rates)
    return made


def _counts(output: str) -> Values:
    match = found(r"^cycles (\d+), at the array's peak (\d+): ([0-9.]+)%", output)
    bound = found(r"are ([0-9.]+) times as many$", output)[1]
    ratio = found(r"^total .*% +([0-9.]+) +\w+", output)[1]
    return {"cycles": grouped(match[1]), "peak": grouped(match[2]),
            "use": f"{float(match[3]):.1f} %", "bound": bound, "ratio": f"{float(ratio):.2f}"}


def _cycles(output: str) -> Values:
    return _counts(output) | {"report": report(output)}


def _bursts(output: str) -> Values:
    """Those of ``_cycles``, and how long a burst is that is read."""
    return _cycles(output) | {
        "burst": found(r"^read: \d+ beats in \d+ bursts of ([0-9.]+);", output)[1]}


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


def _embedding(output: str) -> Values:
    """The cosine of a whole model's last tensor to fp32's."""
    match = found(r"^  pooled .* 0 differ, cosine to fp32 ([0-9.]+)$", output)
    return {"cosine": _short(match[1])}


def _accuracy(output: str) -> Values:
    """Every table of accuracy, with what stands above it."""
    found(r"^table ranges: ", output)
    _, *tables = re.split(r"^table ([\w-]+): .*$", output, flags=re.MULTILINE)
    return {name: text.strip("\n").splitlines()
            for name, text in zip(tables[::2], tables[1::2], strict=True)}


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
    "accuracy": Source("python -m sim.accuracy --report", _accuracy, cheap=True),
    "head": Source("python -m sim.demo --fmt posit8", _head),
    "heads-128": Source("python -m sim.demo --fmt posit8 --tokens 128 --all-heads", _head),
    **{f"head-{fmt}-{mode}": Source(f"python -m sim.demo --fmt {fmt} --softmax {mode}", _error,
                                    also=("--on", "machine"))
       for fmt in FORMATS for mode in _MODES},
    "soc": Source("python examples/soc/run.py", _soc),
    "crossings": Source("python -m synth.crossings", _crossings),
    "budget": Source("python -m synth.front_ends --budget", _budget, cheap=True),
    "front-ends": Source("python -m synth.front_ends", _front_ends),
    "throughput": Source("python -m sim.throughput --sizes 128", _throughput),
    # Alone: eight of them take most of an hour on a busy machine.
    "throughput-512": Source(
        "python -m sim.throughput --sizes 512 --commands 1 --no-softmax", _throughput),
    "bert-base-layer": Source(f"{_MODELS} bert-base --layers 1:2", _cycles, cheap=True),
    **{f"bert-base-{name}": Source(
        f"{_MODELS} bert-base --layers 1:2 --fmt int8{scales}", _counts, cheap=True)
       for name, scales in (("int8", ""), ("int8-static", " --scales static"))},
    "bert-base-centred": Source(
        f"{_MODELS} bert-base --layers 1:2 --centring twice", _counts, cheap=True),
    **{f"bert-base-dram{name}": Source(
        f"{_MODELS} bert-base --layers 1:2 --memory dram{options}", _bursts)
        for name, options in (("", ""), ("-512", " --bus-bytes 64"),
                              ("-512-deep", " --bus-bytes 64 --input-depth 2048"))},
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
       for acc in EVERY_SUM},
    "area": Source(_AREA, area_values),
    "area-all": Source(f"{_AREA} --functions all", all_functions,
                       also=("--block", "lane", "accelerator")),
    "units": Source("python -m synth.units", unit_values),
    "paper": Source("python -m synth.paper --dims 8 16", paper_values, also=("--svg", "docs")),
    "power": Source("python -m synth.power", power_values),
    "functions": Source("python tools/function_errors.py", _errors, cheap=True),
    "scaling": Source("python -m gen.scaling --fmt posit8 bf16", _scaling),
}
