"""The generated accelerator at its AXI ports, Verilated, for whole programs at full speed."""

import ctypes
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gen.cached import generated
from gen.design import Design
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTERS, IDENTITY, REGISTERS
from hdl.spec.surroundings import Surroundings
from sim.harness.binding import HEADERS, SOURCES, load
from sim.harness.stalls import CHANNELS, PROFILES, StallProfile
from sim.harness.traffic import harmless_traffic
from sim.harness.verilate import build_library

__all__ = ["DECERR", "REPEATED", "SLVERR", "Accelerator", "Fault", "Freeze", "HungError", "Result",
           "repeated"]

SLVERR, DECERR = 2, 3
# Classes whose modules are compiled once, however many of them there are.
REPEATED = frozenset(("Row", "Lane", "AccumulatorAdder", "ExactAdder"))
BUS_FIELDS = ("read_bursts", "read_beats", "write_bursts", "write_beats", "write_responses",
              "most_reads_outstanding", "most_writes_outstanding", "cycle")
_OFFSETS = {register.name: register.offset for register in REGISTERS}
_SETTLE_CYCLES = 100
_RESET_CYCLES = 8
_PROGRESS_CYCLES = 5000


class HungError(TimeoutError):
    """No interrupt, or no answer at the control port, within the limit."""


@dataclass(frozen=True)
class Fault:
    """Byte addresses ``[first, end)`` answer ``resp`` (SLVERR or DECERR) instead of OKAY."""

    first: int
    end: int
    resp: int = SLVERR
    reads: bool = True
    writes: bool = True


@dataclass(frozen=True)
class Freeze:
    """``channel`` (ar, r, aw, w, b) transfers nothing more ``after`` so many transfers."""

    channel: str
    after: int


@dataclass(frozen=True)
class Result:
    """What one program did.

    Attributes
    ----------
    error: the lowest cause set in CSR ``ERROR``, ``None`` after a clean END; ``errors`` is all.
    error_address, error_client, error_response: as in the CSRs, only meaningful with an error.
    status: raw CSR ``STATUS``. cycles: from the START write's response (from the STOP write's,
        with ``stop_after``) to the interrupt.
    counters: the hardware's performance counters by lower-case name.
    bus: what the harness saw on AXI (``BUS_FIELDS``, cycle left out).
    violations: broken AXI rules, traffic after the interrupt; empty for a correct design.
    written: uint8 per byte of the image, how often it was written (255 means more often).
    """

    error: ErrorCause | None
    errors: tuple[ErrorCause, ...]
    error_address: int
    error_client: int
    error_response: int
    status: int
    cycles: int
    counters: dict[str, int]
    bus: dict[str, int]
    violations: list[str]
    written: np.ndarray


def repeated(design: Design, config: AcceleratorConfig) -> tuple[str, ...]:
    """Large modules of a generated design that are instantiated many times, none inside another.

    Below 8 columns there are none: their wrappers cost more than the copies.
    """
    found = (name for name, module in design.modules.items()
             if module.leaf and module.leaf.component.rpartition(".")[2] in REPEATED)
    return tuple(found) if config.dim >= 8 else ()


class Accelerator:
    """One build of ``config``, powered up and reset once; runs any number of programs.

    The build is cached by content under ``build_dir`` (default build/verilated). ``design`` is the
    generated one, where the caller has it; ``verilog`` is the text of another design with the
    top's ports, which takes longer to build from 8 columns up. ``surroundings``: what either was
    generated for; of a clock enable, edges that do not count come at random, and a control port's
    own clock is the other's. ``trace`` compiles waveforms in
    (see ``run``), ``coverage`` counters of lines and branches (see ``write_coverage``).
    ``optimise``: the
    compiler's option; -O0 builds faster and runs a third as fast. ``seed`` fills the registers
    that have no initial value. ``ToolError`` when a tool fails, ``HungError`` when the
    control port does not answer or is not that of ``config``.
    """

    def __init__(self, config: AcceleratorConfig, build_dir: Path | None = None, *,
                 verilog: str | None = None, design: Design | None = None, top: str = "ottava",
                 surroundings: Surroundings | None = None, trace: bool = False,
                 coverage: bool = False, optimise: str = "-O1", seed: int = 0) -> None:
        around = surroundings or Surroundings()
        if verilog is None and design is None:
            design = generated(config, surroundings=around)
        blocks = () if design is None else repeated(design, config)
        if verilog is None:
            assert design is not None
            verilog = design.text
        defines = {"BUS_BYTES": config.bus_bytes, **dict.fromkeys(
            (name.upper() for name in ("clock_enable", "control_clock") if getattr(around, name)),
            1)}
        path = build_library(verilog, top, SOURCES, headers=HEADERS, trace=trace, blocks=blocks,
                             coverage=coverage, defines=defines, optimise=optimise,
                             build=build_dir)
        self.config, self._lib = config, load(path)
        self._bench = self._lib.bench_new(seed)
        self.reset()
        found = self.read("CONFIG_HASH_LOW") | self.read("CONFIG_HASH_HIGH") << 32
        if self.read("IDENTITY") != IDENTITY or found != config.hash:
            raise HungError(f"the design must have configuration {config.hash:#x}, not {found:#x}")

    def __del__(self) -> None:
        if getattr(self, "_bench", None):
            self._lib.bench_free(self._bench)
            self._bench = None

    def reset(self, *, alone: bool = False) -> None:
        """Hold ``aresetn`` low for a few cycles; ``alone``: without the memory, which still owes
        whatever it owed."""
        self._lib.bench_reset(self._bench, _RESET_CYCLES, alone)

    def read(self, register: str) -> int:
        """A CSR, through AXI4-Lite."""
        value = ctypes.c_uint32()
        self._answered(register, self._lib.bench_read(
            self._bench, _OFFSETS[register], ctypes.byref(value)))
        return value.value

    def write(self, register: str, value: int) -> None:
        """Write a CSR, through AXI4-Lite."""
        self._answered(register, self._lib.bench_write(self._bench, _OFFSETS[register], value))

    def write_coverage(self, path: Path) -> None:
        """Write how often each line and branch ran since power-up, as Verilator's text."""
        if not self._lib.bench_coverage(self._bench, str(path).encode()):
            raise ValueError(f"path must be given to a build with coverage, not {path!r}")

    def run_for(self, cycles: int) -> None:
        """Let the clock run."""
        self._lib.bench_run_for(self._bench, cycles)

    @property
    def skipped(self) -> int:
        """Edges of the clock that did not count, of a build with a clock enable."""
        return self._lib.bench_skipped(self._bench)

    @property
    def interrupt(self) -> bool:
        return bool(self._lib.bench_interrupt(self._bench))

    @property
    def write_under_way(self) -> bool:
        """Whether the memory has a burst's address or some of its data, and not yet all."""
        return bool(self._lib.bench_write_under_way(self._bench))

    def run(self, memory: np.ndarray, program_address: int, base: int = 0, *,
            stalls: StallProfile = PROFILES["ideal"], seed: int = 0, watchdog: int = 0,
            stop_after: int | None = None, max_cycles: int = 50_000_000,
            faults: Iterable[Fault] = (), waves: Path | None = None,
            progress: Callable[[int, np.ndarray], None] | None = None) -> Result:
        """Run the program at ``program_address``; ``memory`` (uint8) sits at ``base``.

        ``memory`` is changed in place; the bus answers DECERR outside it. ``stop_after``: cycles
        until the host asks for a stop. ``waves`` takes a VCD of this run, in a build with
        ``trace``. ``progress`` is called from time to time with the cycle and ``Result.written``.
        ``HungError`` after ``max_cycles`` without an interrupt; the design is reset then.
        """
        with self.attached(memory, base, stalls=stalls, seed=seed, faults=faults) as written:
            lib, bench = self._lib, self._bench
            if waves is not None and not lib.bench_trace(bench, str(waves).encode()):
                raise ValueError("waves must be a writable path in a build with trace, "
                                 f"not {waves!r}")
            try:
                self.start(program_address, watchdog)
                if stop_after is not None:
                    self.run_for(stop_after)
                    self.write("CONTROL", 2)
                told = None if progress is None else lambda cycle: progress(cycle, written)
                return self.collect(self.wait(max_cycles, told), written)
            finally:
                lib.bench_trace(bench, None)

    @contextmanager
    def attached(self, memory: np.ndarray, base: int = 0, *,
                 stalls: StallProfile = PROFILES["ideal"], seed: int = 0,
                 faults: Iterable[Fault] = (), freeze: Freeze | None = None
                 ) -> Iterator[np.ndarray]:
        """``memory`` on the bus, as in ``run``, within a ``with``: gives ``Result.written``.

        For what ``run`` cannot do, with ``start``, ``run_for``, ``wait`` and ``collect``.
        """
        if memory.dtype != np.uint8 or memory.ndim != 1 or not memory.flags.c_contiguous:
            raise TypeError(f"memory must be a contiguous vector of uint8, not {memory!r}")
        lib, bench = self._lib, self._bench
        written = np.zeros_like(memory)
        lib.bench_image(bench, memory.ctypes.data, written.ctypes.data, base, memory.size)
        lib.bench_profile(bench, ctypes.byref(stalls.as_struct()))
        lib.bench_seed(bench, seed)
        for fault in faults:
            lib.bench_fault(bench, fault.first, fault.end, fault.resp, fault.reads, fault.writes)
        if freeze is not None:
            lib.bench_freeze(bench, CHANNELS.index(freeze.channel), freeze.after)
        lib.bench_clear_statistics(bench)
        try:
            yield written
        except HungError:
            self.reset()
            raise
        finally:
            lib.bench_thaw(bench)
            lib.bench_clear_faults(bench)
            lib.bench_image(bench, None, None, 0, 0)

    def start(self, program_address: int, watchdog: int = 0) -> None:
        """Set the program's address, the watchdog and the interrupts; START."""
        self.write("PROGRAM_LOW", program_address & 0xFFFFFFFF)
        self.write("PROGRAM_HIGH", program_address >> 32)
        self.write("WATCHDOG", watchdog)
        self.write("INTERRUPT_ENABLE", 0b11)
        self.write("CONTROL", 1)

    def wait(self, max_cycles: int, progress: Callable[[int], None] | None = None) -> int:
        """Cycles until the interrupt; ``HungError`` after ``max_cycles`` without. ``progress`` is
        called with the cycle from time to time."""
        step = max(1, max_cycles) if progress is None else _PROGRESS_CYCLES
        for past in range(0, max_cycles, step):
            cycles = self._lib.bench_wait(self._bench, min(step, max_cycles - past))
            if cycles >= 0:
                return past + cycles
            if progress is not None:
                progress(past + step)
        raise HungError(f"no interrupt within {max_cycles} cycles, "
                        f"STATUS {self.read('STATUS'):#x}, violations {self.violations()}")

    def thaw(self) -> None:
        """A frozen channel goes on."""
        self._lib.bench_thaw(self._bench)

    def begin_traffic(self, program_address: int, seed: int) -> None:
        """Random accesses to the control port from now on: ``harmless_traffic``."""
        words = harmless_traffic(self.config, program_address)
        self._lib.bench_traffic(self._bench, words, seed)

    def end_traffic(self) -> int:
        """How many accesses there were; waits for the last."""
        accesses = self._lib.bench_traffic(self._bench, None, 0)
        if accesses < 0:
            raise HungError("the control port does not answer")
        return accesses

    def collect(self, cycles: int, written: np.ndarray, *, counters: bool = True) -> Result:
        """What the program did, from the registers, after its interrupt; clears the events.

        Without ``counters`` they are not read, which saves most of the time.
        """
        statistics = (ctypes.c_uint64 * len(BUS_FIELDS))()
        self._lib.bench_statistics(self._bench, statistics)
        before = list(statistics)
        self.run_for(_SETTLE_CYCLES)
        self._lib.bench_statistics(self._bench, statistics)
        late = [BUS_FIELDS[i] for i in range(len(CHANNELS)) if statistics[i] != before[i]]
        self.write("COUNTER_CONTROL", 1)
        counted = {name.lower(): self.read(f"{name}_LOW") | self.read(f"{name}_HIGH") << 32
                   for name, _ in COUNTERS if counters}
        self.write("COUNTER_CONTROL", 0)
        status, bits = self.read("STATUS"), self.read("ERROR")
        address = self.read("ERROR_ADDRESS_LOW") | self.read("ERROR_ADDRESS_HIGH") << 32
        detail = self.read("ERROR_DETAIL")
        self.write("ERROR", bits)
        self.write("INTERRUPT", self.read("INTERRUPT"))
        errors = tuple(cause for cause in ErrorCause if bits >> cause & 1)
        violations = self.violations() + [f"{name} went on after the interrupt" for name in late]
        return Result(errors[0] if errors else None, errors, address, detail & 7, detail >> 8,
                      status, cycles, counted, dict(zip(BUS_FIELDS[:-1], before, strict=False)),
                      violations, written)

    def violations(self) -> list[str]:
        """Rules of the buses broken since this was asked last."""
        text = ctypes.c_char_p()
        total = self._lib.bench_violations(self._bench, ctypes.byref(text))
        found = (text.value or b"").decode().splitlines()
        self._lib.bench_clear_violations(self._bench)
        return found + ([f"{total - len(found)} more"] if total > len(found) else [])

    def _answered(self, register: str, response: int) -> None:
        if response:
            raise HungError(f"the control port answered {response} at {register}")
