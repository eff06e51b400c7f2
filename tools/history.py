"""Areas and delays by unit, kept: ``python -m tools.history``, ``--renew --because TEXT``.

``synth/history`` has a file for each of a few builds: gate-equivalents of each row of
``synth.units`` and the longest path of its units, by this project's cells and script ``clock``.
``now`` is as last measured, ``states`` what it came from: the first, and each that moved by more
than 3 % from the one before, with the reason. Many small steps are compared with the last state,
so that they cannot add up unseen.

Without options rows whose text is no longer the measured one are mapped, and the exit code is 1
where one has grown by more than 3 % since its last state, is new, or is gone. ``--anew`` maps every
row, and each must be as the file says. ``--renew`` writes what is now; what moved by more than 3 %
needs ``--because``. Exit code 2 for wrong arguments.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this checkout, wherever another one is installed

from gen.cached import generated  # noqa: E402
from gen.cli import Parser, add_quiet, appearing, piped  # noqa: E402
from hdl.spec.config import AcceleratorConfig  # noqa: E402
from synth.flow import SCRIPTS, Flow  # noqa: E402
from synth.hierarchy import Hierarchy, Unit  # noqa: E402
from synth.library import library_named  # noqa: E402
from synth.units import apart, rows  # noqa: E402
from synth.yosys import yosys_version  # noqa: E402

FOLDER = ROOT / "synth/history"
LIMIT = 0.03
# Lanes of integers are not among them: ABC takes minutes over their shifters.
BUILDS = {fmt: AcceleratorConfig(fmt, dim=4) for fmt in ("posit8", "fp8", "bf16", "int8")}
_SCRIPT = "clock"


@dataclass(frozen=True)
class State:
    """What a row takes: ``gates`` of all its instances, the longest path in ns."""

    gates: float
    ns: float

    def beyond(self, then: "State") -> Iterator[str]:
        """What moved from ``then`` by more than ``LIMIT``, in words; growth has a plus."""
        for value, old, unit in ((self.gates, then.gates, "gate-equivalents"),
                                 (self.ns, then.ns, "ns")):
            if abs(value - old) > LIMIT * old:
                share = f" ({value / old - 1:+.1%})" if old else ""
                yield f"{old:,.1f} -> {value:,.1f} {unit}{share}"

    def grown(self, then: "State") -> bool:
        return (self.gates > (1 + LIMIT) * then.gates) or self.ns > (1 + LIMIT) * then.ns


@dataclass(frozen=True)
class Row:
    """Units of a row with their instances."""

    units: Mapping[Unit, int]

    def text(self, flow: Flow) -> str:
        """Digest of all that its figures follow from."""
        seen = hashlib.sha256("\0".join((yosys_version(), flow.library.digest, SCRIPTS[_SCRIPT])
                                        ).encode())
        for unit, times in sorted(self.units.items(), key=lambda item: item[0].name):
            seen.update(f"\0{unit.name}\0{times}\0{unit.text}".encode())
        return seen.hexdigest()[:16]


def rows_of(config: AcceleratorConfig) -> dict[str, Row]:
    made = generated(config)
    tree = Hierarchy(made, apart(made))
    mapped = [unit for unit in tree.units if not tree.modules[unit].is_memory]
    return {name: Row({tree.unit(unit): times for unit, times in units.items()})
            for name, units in sorted(rows(made, mapped).items())}


def measured(flow: Flow, wanted: Mapping[str, Row]) -> dict[str, State]:
    done = flow.map_units({unit for row in wanted.values() for unit in row.units}, _SCRIPT)
    return {name: State(round(sum(done[unit].gates * times for unit, times in row.units.items()),
                              1), round(max(done[unit].delay for unit in row.units), 2))
            for name, row in wanted.items()}


@dataclass(frozen=True)
class Build:
    """A build as it is and as its file has it. ``found``: rows that were mapped now."""

    name: str
    now: Mapping[str, Row]
    kept: Mapping[str, dict]
    found: Mapping[str, State]

    def last(self, row: str) -> State:
        last = self.kept[row]["states"][-1]
        return State(last["gates"], last["ns"])

    def moved(self) -> Iterator[tuple[str, str, bool]]:
        """Rows that are not as their last state says: name, what moved, and whether it grew."""
        for row in sorted({*self.now, *self.kept}):
            if row not in self.kept:
                state = self.found[row]
                yield row, f"new, {state.gates:,.1f} gate-equivalents, {state.ns:,.1f} ns", True
            elif row not in self.now:
                yield row, "gone", True
            elif row in self.found:
                told = list(self.found[row].beyond(self.last(row)))
                if told:
                    yield row, ", ".join(told), self.found[row].grown(self.last(row))

    def differing(self, flow: Flow) -> Iterator[str]:
        """Rows of the text that was measured whose figures are others than the file's."""
        for row, state in self.found.items():
            now = self.kept.get(row, {}).get("now", {})
            if now.get("text") == self.now[row].text(flow) and now | asdict(state) != now:
                yield (f"{self.name} {row} is {state.gates:,.1f} gate-equivalents and {state.ns} "
                       f"ns, in the file {now['gates']:,.1f} and {now['ns']}")

    def renewed(self, flow: Flow, because: str) -> dict[str, dict]:
        """The rows of the file as they are now."""
        moved = {row for row, _, _ in self.moved()}
        made = {}
        for row, units in self.now.items():
            own = self.kept.get(row, {"states": []})
            now = asdict(self.found[row]) if row in self.found else {
                name: own["now"][name] for name in ("gates", "ns")}
            states = own["states"] + [now | {"because": because}] * (row in moved)
            made[row] = {"now": {"text": units.text(flow)} | now, "states": states}
        return made


def builds(flow: Flow, folder: Path, anew: bool) -> Iterator[Build]:
    """Each build of ``BUILDS``, with what had to be mapped."""
    for name, config in BUILDS.items():
        file = folder / f"{name}.json"
        kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        now = rows_of(config)
        changed = {row: units for row, units in now.items()
                   if anew or row not in kept or kept[row]["now"]["text"] != units.text(flow)}
        yield Build(name, now, kept, measured(flow, changed))


def _lines(found: Mapping[str, dict]) -> str:
    """JSON with a line for each state, so that a change is one line of a difference."""
    told = []
    for row, said in found.items():
        states = ",\n   ".join(map(json.dumps, said["states"]))
        told.append(f' {json.dumps(row)}: {{"now": {json.dumps(said["now"])},\n'
                    f'  "states": [\n   {states}]}}')
    return "{\n" + ",\n".join(told) + "\n}\n"


def _parser() -> Parser:
    parser = Parser(prog="tools.history", description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--renew", action="store_true", help="write what is now")
    what.add_argument("--anew", action="store_true",
                      help="map what has not changed too; each row must be as the file says")
    parser.add_argument("--because", metavar="TEXT",
                        help="with --renew: why units moved by more than 3 %%")
    add_quiet(parser)
    return parser


def main(argv: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.because is not None and not (arguments.renew and arguments.because.strip()):
        parser.error("--because must be a reason beside --renew")
    flow = Flow(library_named("ottava"), quiet=arguments.quiet)
    every = list(builds(flow, folder, arguments.anew))
    moved = [(f"{one.name} {row}: {told}", grown)
             for one in every for row, told, grown in one.moved()]
    if arguments.renew:
        if moved and not arguments.because:
            parser.error(f"--because must say why {moved[0][0]}; {len(moved)} moved by more than "
                         f"{LIMIT:.0%}")
        for one in every:
            text = _lines(one.renewed(flow, arguments.because or ""))
            with appearing(folder / f"{one.name}.json") as part:
                part.write_text(text, encoding="utf-8")
    wrong = [f"{told}: explain it by `python -m tools.history --renew --because TEXT`"
             for told, grown in moved if grown]
    if arguments.anew:
        wrong += [line for one in every for line in one.differing(flow)]
    told = [line for line, _ in moved] if arguments.renew else wrong
    print("\n".join([*told, f"history: {len(every)} builds, {sum(len(o.now) for o in every)} rows, "
                     f"{sum(len(o.found) for o in every)} mapped, {len(told)} "
                     + ("explained" if arguments.renew else "beyond what is explained")]))
    return 0 if arguments.renew else int(bool(wrong) or not every)


if __name__ == "__main__":
    sys.exit(piped(main))
