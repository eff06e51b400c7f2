"""What is wrong with the outcome of a fault."""

from collections.abc import Iterator

import numpy as np

from hdl.spec.commands import ErrorCause
from sim.campaigns.faults.injection import START, Injection
from sim.campaigns.faults.target import Target
from sim.harness.accelerator import Result

__all__ = ["BUSY", "STUCK", "judge", "judge_clean"]

BUSY, DONE, FAILED, STUCK = 1, 2, 4, 8  # of STATUS


def _differences(found: np.ndarray, wanted: np.ndarray, base: int, what: str) -> Iterator[str]:
    wrong = np.flatnonzero(found != wanted)
    if wrong.size:
        first = wrong[0]
        yield (f"{what}: {wrong.size} bytes, the first at {base + first:#x}: {found[first]}, "
               f"not {wanted[first]}")


def judge_clean(target: Target, memory: np.ndarray, result: Result) -> list[str]:
    """A sound program: every byte right and written once, nothing else touched."""
    problems = list(result.violations)
    if (result.errors, result.status) != ((), DONE):
        problems.append(f"ended with {result.errors}, STATUS {result.status:#x}")
    problems += _differences(memory, target.expected, target.case.base, "wrong bytes")
    problems += _differences(result.written, target.writes(target.end), target.case.base,
                             "wrong number of writes")
    return problems


def judge(injection: Injection, before: np.ndarray, memory: np.ndarray, result: Result,
          ended: str) -> list[str]:
    """A program with a fault; ``before``: the image at its start, ``ended``: by which reset."""
    problems = list(result.violations)
    if ended:
        if (result.errors, result.status) != ((), 0):
            problems.append(f"{ended} left {result.errors}, STATUS {result.status:#x}")
        if result.error_address or result.error_client or result.error_response:
            problems.append(f"{ended} left an error's address or detail")
        return problems + list(_judge_part(injection, before, memory, result))
    if result.errors not in injection.errors:
        wanted = " or ".join(str([cause.name for cause in errors]) for errors in injection.errors)
        problems.append(f"ended with {[cause.name for cause in result.errors]}, not {wanted}")
    stuck = STUCK if ErrorCause.BUS_STUCK in result.errors else 0
    status = stuck | FAILED if result.errors else DONE
    if result.status != status:
        problems.append(f"STATUS is {result.status:#x}, not {status:#x}")
    if result.errors:
        problems += _judge_detail(injection, result)
    if injection.complete is not None:
        return problems + list(_judge_complete(injection, memory, result))
    if not result.errors:
        count = injection.target.end
        return problems + list(_judge_complete(injection, memory, result, count))
    return problems + list(_judge_part(injection, before, memory, result))


def _judge_detail(injection: Injection, result: Result) -> Iterator[str]:
    if result.error_address not in injection.addresses:
        wanted = ", ".join(f"{address:#x}" for address in sorted(injection.addresses))
        yield f"ERROR_ADDRESS is {result.error_address:#x}, not {wanted}"
    if injection.clients is not None and result.error_client not in injection.clients:
        yield f"CLIENT is {result.error_client}, not one of {sorted(injection.clients)}"
    if injection.response is not None and result.error_response != injection.response:
        yield f"RESPONSE is {result.error_response}, not {injection.response}"


def _judge_complete(injection: Injection, memory: np.ndarray, result: Result,
                    count: int | None = None) -> Iterator[str]:
    """The first commands are complete, nothing else is touched."""
    target, base = injection.target, injection.target.case.base
    count = injection.complete if count is None else count
    assert count is not None, "a fault that leaves a part is judged by its parts"
    expected = target.after(count).copy()
    for at, patch in injection.patches.items():
        expected[at:at + len(patch)] = np.frombuffer(patch, np.uint8)
    yield from _differences(memory, expected, base, "wrong bytes")
    written = result.written
    if injection.action is not None and injection.action.control == START:
        written = np.minimum(written, 1)
    yield from _differences(written, target.writes(count), base, "wrong number of writes")


def _judge_part(injection: Injection, before: np.ndarray, memory: np.ndarray, result: Result
                ) -> Iterator[str]:
    """Whatever was written is right; what precedes a fence is complete."""
    target, base = injection.target, injection.target.case.base
    expected = np.where(result.written > 0, target.expected, before)
    yield from _differences(memory, expected, base, "wrong bytes")
    most = target.writes(target.end)
    yield from _differences(np.maximum(result.written, most), most, base, "stray writes")
    index = target.index(result.error_address)
    if result.errors and index is not None:
        least = target.writes(target.fenced(index))
        yield from _differences(np.minimum(result.written, least), least, base,
                                "missing writes before a fence")
