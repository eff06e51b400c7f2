"""Rows of a data set shared out: here, to processes, or to the workers of a scheduler."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from sim.inference.datasets import Row, SetError
from sim.inference.judging import Judges, Key, Outcome, Plan

__all__ = ["outcomes"]

Work = Sequence[tuple[str, int, Row]]
_CONNECTED_WITHIN = 10  # seconds
_JUDGES: dict[str, Judges] = {}


def _judged(plan: Plan, build: str, number: int, row: Row) -> tuple[Key, Outcome]:
    """In a worker, which keeps the models of a plan."""
    judges = _JUDGES.setdefault(repr(plan), Judges(plan))
    return (build, number), judges.outcome(build, row)


def outcomes(plan: Plan, work: Work, jobs: int, scheduler: str | None = None
             ) -> Iterator[tuple[Key, Outcome]]:
    """What each row of ``work`` says of its build, in any order: of builds and numbers of rows.
    ``jobs``: processes here; ``scheduler``: the address of one of dask.distributed, whose workers
    take their place. ``SetError`` where there are no workers, or they end; as ``Judges``."""
    if scheduler is not None:
        yield from _distributed(plan, work, scheduler)
    elif jobs == 1 or len(work) < 2:
        judges = Judges(plan)
        for build, number, row in work:
            yield (build, number), judges.outcome(build, row)
    else:
        yield from _in_processes(plan, work, jobs)


def _in_processes(plan: Plan, work: Work, jobs: int) -> Iterator[tuple[Key, Outcome]]:
    # One thread a process: several would fight for the same cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(min(jobs, len(work)), multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(_judged, plan, *one) for one in work]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool as error:
            raise SetError("a process ended before its work did, for want of memory perhaps; "
                           "fewer --jobs need less") from error
        finally:
            for task in waiting:
                task.cancel()


def _distributed(plan: Plan, work: Work, scheduler: str) -> Iterator[tuple[Key, Outcome]]:
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
        waiting = [client.submit(_judged, plan, *one, pure=False) for one in work]
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
