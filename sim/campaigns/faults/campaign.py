"""Runs faults one after another on one build, judges each and the program that follows it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.campaigns.faults import bus, host, programs  # noqa: F401  they enter their kinds
from sim.campaigns.faults.injection import KINDS, SOFT_RESET, START, Injection, Maker, NotApplicable
from sim.campaigns.faults.judge import BUSY, STUCK, judge, judge_clean
from sim.campaigns.faults.target import Target
from sim.campaigns.programs import random_case
from sim.harness.accelerator import Accelerator, HungError, Result
from sim.harness.stalls import PROFILES

__all__ = ["Campaign", "Tally"]

LIMIT = 200_000  # cycles after which a run hangs
_FAULTS_A_CASE = 20
_LEAST_CASES = 24
_TRIES = 200
_POLL = 20


@dataclass
class Tally:
    """What came of the faults: how many of each kind and outcome, and what was wrong.

    ``kinds``: those that the build can have.
    """

    kinds: tuple[str, ...]
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    cycles: int = 0
    accesses: int = 0
    bytes: int = 0

    @property
    def faults(self) -> int:
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def missing(self) -> list[str]:
        """Kinds of which there was none, or none that showed."""
        harmless = {"START while busy", "CSR accesses at random"}
        return [name for name in self.kinds if not any(
            outcome != "clean" or name in harmless for outcome in self.outcomes.get(name, ()))]


class Campaign:
    """Faults on ``machine``; number ``index`` of ``seed`` is the same in every run.

    ``cases`` programs are drawn from; every fault is followed by one of them, without a fault.
    """

    def __init__(self, machine: Accelerator, seed: int, count: int) -> None:
        self.machine = machine
        self.seed = seed
        weights = {name: kind.weight for name, kind in KINDS.items()
                   if kind.possible(machine.config)}
        self.tally = Tally(tuple(weights))
        self._cases = _LEAST_CASES + count // _FAULTS_A_CASE
        self._targets: dict[int, Target] = {}
        names = [name for name, weight in weights.items() for _ in range(weight)]
        self._schedule = np.random.default_rng(seed).permutation(names).tolist()

    def run(self, index: int) -> None:
        """Inject fault ``index``, then run a program that must be right."""
        rng = np.random.default_rng((self.seed, index))
        name = self._schedule[index % len(self._schedule)]
        label = f"fault {index} ({name})"
        try:
            injection = self._make(name, rng)
            outcome, problems = self._inject(injection, rng)
        except HungError as error:
            outcome, problems = "hang", [str(error)]
        self.tally.outcomes.setdefault(name, Counter())[outcome] += 1
        self.tally.problems += [f"{label}: {problem}" for problem in problems]
        try:
            problems = self._clean(self._target(rng), rng)
        except HungError as error:
            problems = [str(error)]
        self.tally.problems += [f"{label}, the next program: {problem}" for problem in problems]

    def _target(self, rng: np.random.Generator) -> Target:
        number = int(rng.integers(self._cases))
        if number not in self._targets:
            config = self.machine.config
            own = np.random.default_rng((self.seed, number, 1))
            largest = int(own.choice([5, 9, 2 * config.dim + 1]))
            rounds = int(own.choice([1, 1, 2, 3]))
            target = Target(config, random_case(config, own, largest=largest, rounds=rounds))
            self._targets[number] = target
            problems = self._clean(target, own)
            self.tally.problems += [f"program {number}: {problem}" for problem in problems]
        return self._targets[number]

    def _make(self, name: str, rng: np.random.Generator) -> Injection:
        make = KINDS[name].make
        for _ in range(_TRIES):
            try:
                return make(Maker(self._target(rng), rng))
            except NotApplicable:
                continue
        raise RuntimeError(f"no program has a place for a fault of kind {name!r}")

    @staticmethod
    def _stalls(rng: np.random.Generator) -> dict[str, Any]:
        return {"stalls": PROFILES[str(rng.choice(list(PROFILES)))],
                "seed": int(rng.integers(1 << 31))}

    def _clean(self, target: Target, rng: np.random.Generator) -> list[str]:
        """The target's program on a sound bus."""
        case, memory = target.case, target.case.memory.copy()
        with self.machine.attached(memory, case.base, **self._stalls(rng)) as written:
            self.machine.start(case.address)
            cycles = self.machine.wait(LIMIT)
            result = self.machine.collect(cycles, written, counters=False)
        target.cycles = cycles
        target.transfers = dict(zip(("ar", "r", "aw", "w", "b"), result.bus.values(),
                                    strict=False))
        self.tally.cycles += cycles
        self.tally.bytes += sum(tensor.rows * tensor.row_bytes for tensor in case.outputs)
        return judge_clean(target, memory, result)

    def _inject(self, injection: Injection, rng: np.random.Generator) -> tuple[str, list[str]]:
        """Outcome and problems of a run with the fault."""
        machine, target = self.machine, injection.target
        memory = target.case.memory.copy()
        for at, patch in injection.patches.items():
            memory[at:at + len(patch)] = np.frombuffer(patch, np.uint8)
        before = memory.copy()
        address = target.case.address if injection.address is None else injection.address
        with machine.attached(memory, target.case.base, faults=injection.faults,
                              freeze=injection.freeze, **self._stalls(rng)) as written:
            machine.start(address, injection.watchdog)
            if injection.traffic:
                machine.begin_traffic(address, int(rng.integers(1 << 31)))
            result, ended = self._finish(injection, written)
            late = ["the interrupt stays up"] if machine.interrupt else []
            if result.status & STUCK:
                late += self._after_stuck(injection)
        self.tally.cycles += result.cycles
        outcome = ended or "+".join(cause.name for cause in result.errors) or "clean"
        return outcome, late + judge(injection, before, memory, result, ended)

    def _finish(self, injection: Injection, written: np.ndarray) -> tuple[Result, str]:
        """Let the host act and the program end; what it did, how a reset ended it."""
        machine, action, ended = self.machine, injection.action, ""
        if action is None:
            cycles = machine.wait(LIMIT)
        else:
            machine.run_for(action.after)
            over, cycles = machine.interrupt, action.after
            if action.control is None:
                machine.reset()
                ended = "reset after the end" if over else "reset"
            elif action.control == SOFT_RESET:
                machine.write("CONTROL", SOFT_RESET)
                self._poll(0, ~0)
                ended = "soft reset after the end" if over else "soft reset"
            elif action.control == START and not over:
                machine.write("CONTROL", START)
                self._poll(0, BUSY)  # where the START came just after the end, it runs once more
            elif not over:
                machine.write("CONTROL", action.control)
            if not ended:
                cycles += machine.wait(LIMIT)
        if injection.traffic and ended != "reset":
            self.tally.accesses += machine.end_traffic()
        return machine.collect(cycles, written, counters=False), ended

    def _poll(self, status: int, mask: int) -> None:
        for _ in range(LIMIT // _POLL):
            if self.machine.read("STATUS") & mask == status:
                return
            self.machine.run_for(_POLL)
        raise HungError(f"STATUS stayed {self.machine.read('STATUS'):#x}")

    def _after_stuck(self, injection: Injection) -> list[str]:
        """START must be refused, even when late answers come; only a reset recovers."""
        machine, problems = self.machine, []
        for thaw in (False, injection.thaw):
            if thaw:
                machine.thaw()
                machine.run_for(400)
            machine.write("CONTROL", START)
            if machine.read("STATUS") & (BUSY | STUCK) != STUCK:
                problems.append("START was not refused by a stuck bus")
        problems += machine.violations()
        machine.reset()
        if machine.read("STATUS"):
            problems.append("STATUS is not 0 after a reset")
        return problems
