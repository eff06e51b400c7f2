"""Runs one bench through cocotb's runner, whose interface may change: nothing else calls it."""

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

from gen.cli.folders import build_folder, locked
from sim.bench.catalog import Job
from sim.harness.verilate import (
    QUICK,
    compiled_headers,
    runtime_objects,
    verilator_root,
    verilator_shim,
)

__all__ = ["Report", "missing", "run"]

_TIMESCALE = ("1ns", "1ps")
_RUNTIME = ("verilated", "verilated_dpi", "verilated_vpi", "verilated_threads")
_LOG_LINES = 40
_LATER_SECONDS = 3600
# The wheel's makefile names the compilers of the machine that built it. A bench runs for a few
# thousand cycles: less than it takes to optimise them. One file is compiled faster than many.
_MAKEFLAGS = (f"CXX=g++ LINK=g++ AR=ar PYTHON3={sys.executable} PERL=perl "
              r"VM_PARALLEL_BUILDS=0 OPT_FAST=-O0\ -include\ verilated.h")


@dataclass(frozen=True)
class Report:
    """How one job went; ``message`` says why it failed, ``waves`` where a waveform lies."""

    job: Job
    passed: bool
    cases: int
    cycles: int
    seed: int
    seconds: float
    message: str = ""
    waves: Path | None = None


def missing(simulator: str) -> bool:
    """True where ``simulator`` is not installed."""
    return simulator == "icarus" and shutil.which("iverilog") is None


def run(job: Job, seed: int, waves: bool = False) -> Report:
    """Build and run ``job``; a failure is in the report, never an exception.

    Another process that runs the same job waits: simulators write next to what they run.
    """
    folder = _folder(job, waves)
    with locked(folder.with_name(f"{folder.name}.lock")):
        return _run(job, folder, seed, waves)


def _run(job: Job, folder: Path, seed: int, waves: bool) -> Report:
    started = time.monotonic()
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    message = ""
    try:
        _build(job, folder, waves)
        _test(job, folder, seed, waves, report)
    except (Exception, SystemExit) as error:
        message = f"{error}\n{_tail(folder)}"
    counts = json.loads(report.read_text()) if report.exists() else {"cases": 0, "cycles": 0}
    if not message and not counts["cases"]:
        message = f"no case was checked\n{_tail(folder)}"
    found = sorted([*folder.glob("*.fst"), *folder.glob("*.vcd")]) if waves else []
    return Report(job, not message, counts["cases"], counts["cycles"], seed,
                  time.monotonic() - started, message, found[0] if found else None)


def _folder(job: Job, waves: bool) -> Path:
    name = f"{job.label} {'waves' if waves else ''}".strip().replace(" ", "-")
    return build_folder() / "bench" / job.simulator / f"{name}-{job.config.hash:016x}"


def _build(job: Job, folder: Path, waves: bool) -> None:
    """Build into ``folder`` unless it holds this very design already."""
    verilog = job.verilog
    key = hashlib.sha256(f"{verilog}{verilator_root()}".encode()).hexdigest()
    stamp = folder / "stamp"
    if stamp.exists() and stamp.read_text() == key:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = folder / "design.v"
    source.write_text(verilog)
    sources, arguments = [source], []
    if job.simulator == "verilator":
        os.environ["PATH"] = _with_shim(os.environ["PATH"])
        os.environ["MAKEFLAGS"] = _MAKEFLAGS
        arguments = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-UNOPTFLAT", *QUICK,
                     "--x-initial", "unique"]
        _copy_runtime(folder, waves)
        headers = compiled_headers(_header_flags(waves))
        for name in ("verilated.h", "verilated.h.gch"):
            (folder / name).symlink_to(headers / name)
        ports = folder / "ports.vlt"
        ports.write_text(f'`verilator_config\npublic_flat_rw -module "{job.toplevel}" -var "*"\n')
        sources.append(ports)
    runner = get_runner(job.simulator)
    if job.simulator == "verilator":
        # Every signal public costs the whole design its optimisations; the benches need ports.
        command = runner._build_command
        runner._build_command = lambda: [[word for word in line if word != "--public-flat-rw"]
                                         for line in command()]
    runner.build(
        sources=sources, hdl_toplevel=job.toplevel, build_dir=folder, build_args=arguments,
        timescale=_TIMESCALE, waves=waves, always=True, log_file=folder / "build.log")
    stamp.write_text(key)


def _header_flags(waves: bool) -> list[str]:
    """How the makefile that Verilator writes compiles, as far as its headers could tell."""
    root = verilator_root()
    return ["-O0", f"-I{root}/include", f"-I{root}/include/vltstd", "-DVERILATOR=1",
            "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", f"-DVM_TRACE={int(waves)}",
            "-DVM_TRACE_FST=0", f"-DVM_TRACE_VCD={int(waves)}", "-DVM_TRACE_SAIF=0"]


def _with_shim(path: str) -> str:
    shim = str(verilator_shim())
    return path if path.split(os.pathsep)[0] == shim else shim + os.pathsep + path


def _copy_runtime(folder: Path, waves: bool) -> None:
    """Verilator's run-time objects are most of a small build, and the same for all."""
    for source in runtime_objects(_RUNTIME, vcd=waves):
        target = Path(shutil.copy(source, folder))
        # make holds them for older than the makefile that Verilator is about to write.
        later = time.time() + _LATER_SECONDS
        os.utime(target, (later, later))


def _test(job: Job, folder: Path, seed: int, waves: bool, report: Path) -> None:
    environment = {"OTTAVA_CONFIG": json.dumps(job.config.as_dict()),
                   "OTTAVA_SURROUNDINGS": json.dumps(job.surroundings.as_dict()),
                   "OTTAVA_REPORT": str(report), "COCOTB_ANSI_OUTPUT": "0",
                   # cocotb's default rewrites every module that a bench imports, in every run:
                   # 4 s of a processor for those that load numba.
                   "COCOTB_REWRITE_ASSERTION_FILES": job.bench.rewritten,
                   # What is unknown, in bytes of a word that are not written say, must not matter.
                   **({"COCOTB_RESOLVE_X": "RANDOM"}
                      if job.surroundings.power_up == "unknown" else {}),
                   **job.environment}
    results = get_runner(job.simulator).test(
        hdl_toplevel=job.toplevel, hdl_toplevel_lang="verilog", seed=seed, build_dir=folder,
        test_module=job.bench.module, waves=waves, extra_env=environment, timescale=_TIMESCALE,
        log_file=folder / "test.log", results_xml=str(folder / "results.xml"))
    tests, failed = get_results(results)
    if failed or not tests:
        raise RuntimeError(f"{failed} of {tests} tests failed")


def _tail(folder: Path) -> str:
    for name in ("test.log", "build.log"):
        log = folder / name
        if log.exists():
            lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            return "\n".join([*lines, f"whole log: {log}"])
    return ""


logging.getLogger("cocotb_tools").setLevel(logging.WARNING)
