"""The paper's figures beside ours as SVG."""

from collections.abc import Sequence

from sim.campaigns.accuracy.chart import Axis, chart
from synth import published
from synth.area import FORMATS, PAIRINGS
from synth.paper_areas import Areas, Unit
from synth.power import PUBLISHED, TITLES
from synth.published import CLOCKS

__all__ = ["drawings"]

_CLOCKS = Axis("clock", CLOCKS)
Points = list[tuple[float, float]]


def drawings(areas: Areas, dims: Sequence[int], clock: str) -> dict[str, str]:
    """By name: ``mac``, ``functions`` and, at ``clock``, ``vector`` and ``accelerator``."""
    return {"mac": _mac(areas), "functions": _functions(areas),
            "vector": _vector(areas, dims, clock),
            "accelerator": _accelerator(areas, dims, clock)}


def _over(values: Sequence[float], measure: float) -> Points:
    return [(place, value / measure) for place, value in enumerate(values)]


def _leaf(areas: Areas, unit: Unit) -> list[float]:
    return [areas.leaves[unit, clock].gates for clock in CLOCKS]


def _mac(areas: Areas) -> str:
    """Ours in whole lines, the paper's dashed in the same colours."""
    units = {fmt: Unit("mac", fmt) for fmt in ("posit8", "fp8", "e4m3", "e5m2", "bf16", "int8")}
    units["posit8 encoder"] = Unit("encoder", "posit8")
    measure = areas.leaves[units["bf16"], CLOCKS[0]].gates
    series = {name: _over(_leaf(areas, unit), measure) for name, unit in units.items()}
    theirs = published.MAC["bf16"][0]
    return chart("Area of a MAC, over that of BF16 at the relaxed clock", _CLOCKS,
                 Axis("area / bf16 relaxed"), series | {
                     f"{name}, paper": _over(published.MAC[name], theirs) for name in units})


def _functions(areas: Areas) -> str:
    series: dict[str, Points] = {}
    for block, said in (("exp", published.EXP), ("reciprocal", published.RECIPROCAL)):
        tables = Unit(block, "fp8", "pwl")
        measure = areas.leaves[tables, CLOCKS[0]].gates
        tricks = Unit(block, "posit8", PAIRINGS[PUBLISHED]["posit8"])
        posit, bf16 = said.values()
        series |= {f"{block}, tricks": _over(_leaf(areas, tricks), measure),
                   f"{block}, tables": _over(_leaf(areas, tables), measure),
                   f"{block}, tricks, paper": _over(posit, bf16[0]),
                   f"{block}, tables, paper": _over(bf16, bf16[0])}
    return chart("Exponential and reciprocal, over tables at the relaxed clock", _CLOCKS,
                 Axis("area / tables relaxed"), series)


def _vector(areas: Areas, dims: Sequence[int], clock: str) -> str:
    lanes = Axis("lanes", tuple(map(str, dims)))
    series = {pairing: [(float(place), areas.vector(
        "posit8", PAIRINGS[name]["posit8"], dim, clock) / areas.vector(
            "fp8", PAIRINGS[name]["fp8"], dim, clock)) for place, dim in enumerate(dims)]
        for name, pairing in TITLES.items()}
    series["paper"] = [(float(place), posit / fp8) for place, (dim, posit, fp8) in enumerate(zip(
        published.LANES, published.VECTOR_AREA["posit8"], published.VECTOR_AREA["fp8"],
        strict=True)) if dim in dims]
    return chart("Area of the vector unit, posit8 over fp8", lanes, Axis("posit8 / fp8"),
                 {name: points for name, points in series.items() if points})


def _accelerator(areas: Areas, dims: Sequence[int], clock: str) -> str:
    sizes = Axis("D = L", tuple(map(str, dims)))
    series: dict[str, Points] = {}
    for name, pairing in TITLES.items():
        totals = {fmt: [sum(areas.rows(fmt, PAIRINGS[name][fmt], dim, clock).values())
                        for dim in dims] for fmt in FORMATS}
        for fmt in FORMATS[:2]:
            series[f"{fmt}, {pairing}"] = [
                (float(place), own / measure)
                for place, (own, measure) in enumerate(zip(totals[fmt], totals["bf16"],
                                                           strict=True))]
    for claim in published.CLAIMS:
        if (claim.what, claim.of, claim.against) == ("accelerator", "area", "bf16"):
            series[f"{claim.format}, paper"] = [(float(place), claim.value)
                                                for place in range(len(dims))]
    return chart("Logic of the accelerator over bf16's (paper: with memories, average)", sizes,
                 Axis("area / bf16"), series)
