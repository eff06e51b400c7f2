"""Work shared out, rows of a data set say: here, to processes, or to the workers of a scheduler."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from sim.inference.datasets import Row, SetError
from sim.inference.judging import Judges, Key, Outcome, Plan

__all__ = ["outcomes", "shared"]

Work = Sequence[tuple[str, int, Row]]
T = TypeVar("T")
R = TypeVar("R")
_CONNECTED_WITHIN = 10  # seconds
_JUDGES: dict[str, Judges] = {}


def _judged(plan: Plan, one: tuple[str, int, Row]) -> tuple[Key, Outcome]:
    """In a worker, which keeps the models of a plan."""
    build, number, row = one
    judges = _JUDGES.setdefault(repr(plan), Judges(plan))
    return (build, number), judges.outcome(build, row)


def outcomes(plan: Plan, work: Work, jobs: int, scheduler: str | None = None
             ) -> Iterator[tuple[Key, Outcome]]:
    """What each row of ``work`` says of its build, in any order: of builds and numbers of rows.
    ``jobs``: processes here; ``scheduler``: the address of one of dask.distributed, whose workers
    take their place. ``SetError`` where there are no workers, or they end; as ``Judges``."""
    if scheduler is not None or (jobs > 1 and len(work) > 1):
        yield from shared(partial(_judged, plan), work, jobs, scheduler)
        return
    judges = Judges(plan)
    for build, number, row in work:
        yield (build, number), judges.outcome(build, row)


def shared(function: Callable[[T], R], work: Sequence[T], jobs: int, scheduler: str | None = None
           ) -> Iterator[R]:
    """``function`` of each of ``work``, in any order, in ``jobs`` processes, or by the workers of
    the scheduler at that address; both are pickled. ``SetError`` as for ``outcomes``."""
    if scheduler is not None:
        yield from _distributed(function, work, scheduler)
    elif jobs == 1 or len(work) < 2:
        yield from map(function, work)
    else:
        yield from _in_processes(function, work, jobs)


def _in_processes(function: Callable[[T], R], work: Sequence[T], jobs: int) -> Iterator[R]:
    # One thread a process: several would fight for the same cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(min(jobs, len(work)), multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(function, one) for one in work]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool as error:
            raise SetError("a process ended before its work did, for want of memory perhaps; "
                           "fewer --jobs need less") from error
        finally:
            for task in waiting:
                task.cancel()


def _distributed(function: Callable[[T], R], work: Sequence[T], scheduler: str) -> Iterator[R]:
    try:
        from distributed import Client, KilledWorker
        from distributed import as_completed as completed
    except ImportError as error:
        raise SetError("--scheduler needs dask.distributed: "
                       "pip install 'ottava[distributed]'") from error
    try:
        client = Client(scheduler, timeout=_CONNECTED_WITHIN, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SetError(f"scheduler must be the address of one of dask.distributed that runs, "
                       f"tcp://HOST:8786 say, not {scheduler!r}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise SetError(f"the scheduler at {scheduler} has no workers; dask worker {scheduler} "
                           "starts some")
        waiting = [client.submit(function, one, pure=False) for one in work]
        try:
            for done in completed(waiting, loop=client.loop):
                yield done.result()
                done.release()
        except KilledWorker as error:
            raise SetError("workers ended before their work did, for want of memory "
                           "perhaps") from error
        except ModuleNotFoundError as error:
            raise SetError(f"workers must have ottava[sim] as this machine has it: "
                           f"{error}") from error
        finally:
            client.cancel(waiting)
