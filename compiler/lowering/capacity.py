"""Programs for which this machine has no memory: refused before a large array is made."""

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from compiler.checkpoints.inputs import Step

__all__ = ["LOWERED", "RUN", "check_capacity", "check_steps", "machine_bytes"]

_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# Bytes of each score of one head and sequence: programs take a mask, of float64 before it is
# encoded; models that run or check them hold scores, exponentials and probabilities of float64.
LOWERED, RUN = 8 + 2, 3 * 8


def machine_bytes() -> int:
    """The memory that a process has here: the machine's, or what a limit leaves of it."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        found.append(limit)
    for path in _CGROUPS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # none, or "max"
            continue
    return min(found)


def check_capacity(needed: int, memory: int | None) -> None:
    """``ValueError`` where a program takes more than ``memory`` bytes, those of this machine unless
    given."""
    if memory is not None and needed > memory:
        raise ValueError(f"memory must be at least {needed} bytes for this program, not {memory}")
    if memory is None and needed > (here := machine_bytes()):
        raise ValueError(f"this machine has {here} bytes of memory, of which this program needs at "
                         f"least {needed}: fewer positions, a smaller batch or --layers need less")


def check_steps(steps: Sequence[Step], heads: int, memory: int | None = None,
                each: int = LOWERED) -> None:
    """``check_capacity`` of the scores of ``steps`` alone, before any of them is traced: those of
    all ``heads`` in the program, and ``each`` bytes for those of one head and sequence."""
    stored = max(step.rows * step.total for step in steps) * heads
    check_capacity(stored, memory)
    check_capacity(stored + each * max(step.length * step.total for step in steps), None)
