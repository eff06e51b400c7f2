"""Tables of what a program costs: by command, by layer, in all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from hdl.spec.commands import Opcode
from sim.cycles.bound import Bound, work_bound
from sim.cycles.simulate import Run
from sim.cycles.workload import Workload

__all__ = ["Row", "bursts", "by_command", "by_part", "idle", "table", "total"]

STALLS = ("stall_input", "stall_weight", "stall_accumulator", "stall_vector", "stall_operand")
"""As the hardware's counters name them."""


@dataclass(frozen=True)
class Row:
    """Some neighbouring commands together.

    ``cycles``: by how much the program's end moves when they are done: commands overlap, these
    add up. ``macs``: of their shapes. ``bound``: of their work alone, which overlaps with their
    neighbours', so that ``cycles`` may be less. ``counts``: the sums of the model's counts.
    """

    label: str
    shape: str
    commands: int
    start: int
    cycles: int
    macs: int
    bound: Bound
    counts: dict[str, int]

    def utilisation(self, dim: int) -> float:
        return self.macs / (dim * dim * self.cycles) if self.cycles else 0.0


def _shape(fields: dict[str, int]) -> str:
    if fields["opcode"] == Opcode.GEMM:
        return f"{fields['m']}×{fields['k']}×{fields['n']}"
    return f"{fields['m']}×{fields['n']}"


def _row(label: str, work: Workload, run: Run, indices: Sequence[int], before: int) -> Row:
    counts = run.counts[list(indices)]
    started = counts["start"][counts["start"] >= 0]
    shapes = {_shape(work.commands[i]) for i in indices if work.labels[i]}
    end = max(before, int(counts["end"].max()))
    return Row(label, shapes.pop() if len(shapes) == 1 else "", len(started),
               int(started.min()) if started.size else before, end - before,
               sum(work.macs[i] for i in indices),
               work_bound(run.config, work.commands[indices[0]:indices[-1] + 1]),
               {name: int(counts[name].sum()) for name in counts.dtype.names or ()
                if counts[name].ndim == 1})


def _rows(work: Workload, run: Run, keys: Sequence[object], labels: Sequence[str]
          ) -> Iterator[Row]:
    """A row for each run of commands of the same key; those without a label are left out."""
    before = 0
    chosen = [index for index, label in enumerate(labels) if label]
    for _, group in groupby(chosen, key=keys.__getitem__):
        indices = list(group)
        row = _row(labels[indices[0]], work, run, indices, before)
        before += row.cycles
        yield row


def by_command(work: Workload, run: Run, each: bool = False) -> list[Row]:
    """One row per command, or for all neighbours that write the same tensor; one for all that come
    in turns, by the name of the tensor that most work goes into."""
    if each:
        return list(_rows(work, run, range(len(work.labels)), work.labels))
    labels = _together(work)
    return list(_rows(work, run, labels, labels))


def _together(work: Workload) -> list[str]:
    """The label of each command's row: where a label comes again after one or two others, those are
    in turns and have one row."""
    chosen = [index for index, label in enumerate(work.labels) if label]
    runs = [list(own) for _, own in groupby(chosen, key=work.labels.__getitem__)]
    labels = [work.labels[own[0]] for own in runs]
    found, first = list(work.labels), 0
    while first < len(runs):
        at = last = first
        while at <= last:
            again = [at + ahead for ahead in (2, 3) if labels[at + ahead:][:1] == labels[at:][:1]]
            last, at = max(last, *again, at), at + 1
        names = list(dict.fromkeys(labels[first:last + 1]))
        indices = [index for own in runs[first:last + 1] for index in own]
        if len(names) > 1:
            most = max(indices, key=work.macs.__getitem__)
            for index in indices:
                found[index] = f"{work.labels[most]} and {len(names) - 1} more"
        first = last + 1
    return found


def by_part(work: Workload, run: Run) -> list[Row]:
    """A row for each layer and what stands before and after them."""
    return list(_rows(work, run, work.parts, work.parts))


def total(work: Workload, run: Run) -> Row:
    """The whole program from START on, as the counter CYCLES; ``bound``: that of the program."""
    row = _row("total", work, run, range(len(work.labels)), 0)
    return replace(row, shape="", cycles=run.cycles, bound=run.bound)


def table(rows: Sequence[Row], run: Run) -> list[str]:
    """One line per row below a heading. Shares are of the row's cycles; read and write are beats.
    ×bound: cycles in those of the row's bound, and the part that demands them."""
    dim = run.config.dim
    width = max([len("writes"), *(len(row.label) for row in rows)])
    lines = [f"{'writes':{width}} {'shape':>13} {'cmds':>4} {'start':>9} {'cycles':>9} "
             f"{'of peak':>7} {'×bound':>7} {'limit':>7} {'input':>7} {'weight':>7} "
             f"{'bank':>7} {'vector':>7} {'Y':>7} {'beats':>6} {'read':>5} {'write':>5}"]
    for row in rows:
        cycles = max(row.cycles, 1)
        stalls = " ".join(f"{row.counts[name]:7}" for name in STALLS)
        share = f"{row.utilisation(dim):7.1%}" if row.macs else f"{'-':>7}"
        lines.append(
            f"{row.label:{width}} {row.shape:>13} {row.commands:4} {row.start:9} {row.cycles:9} "
            f"{share} {row.bound.ratio(row.cycles):7.3f} {row.bound.limit:>7} {stalls} "
            f"{row.counts['vector_beats'] / cycles:6.0%} "
            f"{row.counts['read_beats'] / cycles:5.0%} {row.counts['write_beats'] / cycles:5.0%}")
    return lines


def bursts(run: Run) -> str:
    """How long the bus's reads are, on which a DRAM's rate depends, in a line."""
    beats, asked = run.total("read_beats"), run.total("read_bursts")
    return (f"read: {beats} beats in {asked} bursts of {beats / max(asked, 1):.1f}; written: "
            f"{run.total('write_beats')} beats")


def idle(run: Run) -> int:
    """Cycles in which the array neither worked nor waited for one of the named causes: filling,
    draining, fences, commands without a GEMM."""
    waits = sum(run.total(name) for name in ("array_rows", *STALLS[:3]))
    return run.cycles - waits
