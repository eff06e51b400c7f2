"""The paper's claims judged: ``judged``, each in both pairings, with what adds up to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.area import PAIRINGS
from synth.paper_areas import VECTOR, Areas, Unit
from synth.power import FAIR, PUBLISHED, TITLES, Powers, Units, counts
from synth.published import CLAIMS, Claim
from synth.units import BIT

__all__ = ["Judged", "judged"]

_NEAR, _NEAR_RATIO = 0.05, 0.03


@dataclass(frozen=True)
class Judged:
    """``found``: by pairing, what the format takes over what it is compared with. ``parts``: by
    pairing what each part adds to that, less 1. ``also``: more figures, by name."""

    claim: Claim
    found: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]]
    also: Mapping[str, float]

    def holds(self, pairing: str) -> bool:
        """A saving: as large, or less by no more than five points. A ratio of more than 1: within
        three points."""
        value = self.claim.value
        if value > 1:
            return abs(self.found[pairing] - value) <= _NEAR_RATIO
        return self.found[pairing] <= value + _NEAR

    @property
    def verdict(self) -> str:
        published, fair = self.holds(PUBLISHED), self.holds(FAIR)
        if published and fair:
            return "reproduced"
        if published or fair:
            return f"true {TITLES[PUBLISHED] if published else 'in the fair pairing'} only"
        return "refuted"


def judged(areas: Areas, powers: Powers, dims: Sequence[int], clock: str) -> list[Judged]:
    """Every claim, areas at ``clock``. Of wholes averages over ``dims``, their parts at the middle
    one, or the last of two."""
    return [_power(claim, powers) if claim.of == "power" else _area(claim, areas, dims, clock)
            for claim in CLAIMS]


def _area(claim: Claim, areas: Areas, dims: Sequence[int], clock: str) -> Judged:
    found, parts, also = {}, {}, {}
    for pairing in TITLES:
        def rows(fmt: str, dim: int, modes=PAIRINGS[pairing]) -> dict[str, float]:
            return _rows(claim.what, areas, fmt, modes[fmt], dim, clock)

        ratios = [sum(rows(claim.format, dim).values()) / sum(rows(claim.against, dim).values())
                  for dim in dims]
        found[pairing] = sum(ratios) / len(ratios)
        middle = dims[len(dims) // 2]
        parts[pairing] = _parts(rows(claim.format, middle), rows(claim.against, middle))
        if claim.what == "accelerator":
            logic = [{name: gates for name, gates in rows(fmt, middle).items() if name != "memory"}
                     for fmt in (claim.format, claim.against)]
            also[f"logic alone, {TITLES[pairing]}"] = sum(logic[0].values()) / sum(
                logic[1].values())
    return Judged(claim, found, parts, also)


def _rows(what: str, areas: Areas, fmt: str, softmax: str, dim: int, clock: str
          ) -> dict[str, float]:
    """Gates by part of one side of a claim."""
    def leaf(block: str) -> float:
        return areas.leaves[Unit(block, fmt, softmax), clock].gates

    if what in ("exp", "reciprocal"):
        return {what: leaf(what)}
    every = areas.rows(fmt, softmax, dim, clock)
    functions = {f"{name} of lanes": dim * leaf(name) for name in ("exp", "reciprocal")}
    vector = {**functions, "rest of lanes": every["lanes"] - sum(functions.values()),
              "rest of the vector unit": every["unit"]}
    if what == "vector":
        return vector
    memory = BIT * areas.wholes[fmt, softmax, dim].memory_bits
    rest = sum(gates for row, gates in every.items() if row not in ("PEs", *VECTOR))
    return {"PEs": every["PEs"], "vector unit": sum(vector.values()), "rest of logic": rest,
            "memory": memory}


def _power(claim: Claim, powers: Powers) -> Judged:
    """Of accelerators PEs, codecs and lanes; of a vector unit its lanes."""
    found, parts, also = {}, {}, {}
    for pairing in TITLES:
        for name in ("settled", "total"):
            sides = [_spent(claim.what, powers[pairing][fmt], name)
                     for fmt in (claim.format, claim.against)]
            ratio = sum(sides[0].values()) / sum(sides[1].values())
            if name == "settled":
                found[pairing], parts[pairing] = ratio, _parts(*sides)
            else:
                also[f"with glitches, {TITLES[pairing]}"] = ratio
    return Judged(claim, found, parts, also)


def _spent(what: str, units: Units, name: str) -> dict[str, float]:
    times = {"vector": {"lane": 1}, "accelerator": counts(Areas.config(Unit("pe", "posit8")))}
    return {unit: number * getattr(units[unit].spent, name)
            for unit, number in times.get(what, {what: 1}).items()}


def _parts(side: Mapping[str, float], against: Mapping[str, float]) -> dict[str, float]:
    """What each part adds to the ratio of the sums, less 1."""
    whole = sum(against.values())
    return {name: (side[name] - against[name]) / whole for name in side}
