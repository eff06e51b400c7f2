"""Fine-tune a transformer: ``python -m sim.train bert-tiny --task movie-reviews --lora 8``.

Trains adapters, or whole matrices, in numpy with every rounding of the accelerator but those of
its accumulators (products are added up in float32), or with none (``--plain``), or by programs
on the machine model or the generated Verilog, on a task by name or on one's own CSV file with the
columns text and label, text and labels (of words), question, context and answer, or text alone,
for models that tell hidden or next words. The adapters are saved in the files of peft. Exit code 1
where a loss or a gradient is not finite (the last good adapters are saved) or a run is interrupted,
2 for wrong arguments, models and data.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from compiler.centred import centred
from compiler.checkpoints import load
from compiler.checkpoints.packages import ModelUnavailable
from compiler.lowering.place import Tell, part_of, silent
from compiler.lowering.rotary import model_halves_first
from compiler.training.adapters import save_adapters
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.partly import Partly
from compiler.training.masked import MaskedTask
from compiler.training.state import restore, save_state
from compiler.training.tasks import Task
from compiler.training.trainer import NotFinite, StepReport, Trainer
from gen.cli import Line, config_from, piped
from sim.curve import curve
from sim.gradient_check import check
from sim.train_measure import measured, merged
from sim.train_memory import memory_lines
from sim.train_on import AcceleratorSteps
from sim.train_options import (
    check_batch,
    exact_of,
    make_parser,
    task_of,
    training_of,
)
from sim.verify.runner import RunError
from sim.verify.starts import built, machine_start, rtl_start

__all__ = ["main"]

_SAVED_EVERY = 100  # steps between two states
_READ = 0.5  # of what is prepared; the rest is lowering


@dataclass
class Run:
    """A trainer with what it learns from, and what came of each step."""

    trainer: Trainer
    task: Task
    options: argparse.Namespace
    about: dict[str, object]
    reports: list[StepReport] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    accelerator: AcceleratorSteps | None = None

    @property
    def saturated(self) -> int:
        if self.accelerator is not None:
            return self.accelerator.ran.saturations
        return getattr(self.trainer.numerics, "saturated", 0)


def prepare(options: argparse.Namespace, line: Line | None = None) -> Run:
    """Model, task, trainer; ``line`` tells how far that is. ``ValueError``, ``ModelUnavailable`` in
    one line."""
    if options.full and options.out is not None:
        raise ValueError("out is for adapters: whole matrices have none")
    if options.resume and options.state is None:
        raise ValueError("resume needs --state, the file to go on from")
    config, exact = config_from(options), exact_of(options)
    if options.on != "numpy":
        if options.plain:
            raise ValueError(f"plain is for numpy alone, not for {options.on}")
        config = replace(config, functions="training")
    if config.format.integer and not options.plain:
        raise ValueError(f"format must be one with fractions to be trained in, not {config.fmt}: "
                         "gradients are no integers")
    model = centred(load(options.model, offline=options.offline), config, options.centring)
    tell: Tell = silent
    if line is not None:
        line.restart()
        tell = line.tell
    task = task_of(options, model, part_of(tell, 0, _READ))
    model = task.headed(model, options.seed)
    if options.on != "numpy":
        model = model_halves_first(model)
    training = training_of(options, model, config, not task.tells_words)
    check_batch(training, task)
    numerics = Exact(np.float32) if options.plain else Partly(
        config, exact, backward=training.backward, target=training.scale_log2)
    trainer = Trainer(model, training, task.kind, numerics, "float" if options.plain else "pair")
    about = {"model": options.model, "task": task.name, "training": repr(training),
             "config": "fp32" if options.plain else config.as_dict()}
    if options.centring != "once":
        about["centring"] = options.centring
    if options.exact is not None:
        about["exact"] = options.exact
    if isinstance(task, MaskedTask):
        about["masking"] = repr(task.masking)
    if options.resume:
        restore(options.state, trainer, about)
    run = Run(trainer, task, options, about)
    if options.on != "numpy":
        start = machine_start(config) if options.on == "machine" else rtl_start(built(config))
        run.accelerator = AcceleratorSteps(
            config, trainer, task.train.part(slice(0, training.batch)), start,
            part_of(tell, _READ, 1))
    return run


def _train(run: Run) -> None:
    """All steps that are left, a line for each of about twenty of them."""
    trainer, training = run.trainer, run.trainer.training
    on = run.accelerator or trainer
    stream = run.task.batches(training.batch, training.seed)
    stream = islice(stream, trainer.updater.steps, training.steps)
    every = max(1, training.steps // 20)
    fresh = trainer.updater.steps == 0
    try:
        with Line("trained", quiet=run.options.quiet) as line:
            for batch in stream:
                if fresh:
                    on.calibrate(batch)
                    fresh = False
                run.reports.append(on.step(batch))
                nars = 0 if run.accelerator is None else run.accelerator.ran.nars
                run.counts.append((run.saturated, nars))
                _told(run, every, line)
                if run.options.state is not None and run.reports[-1].step % _SAVED_EVERY == 0:
                    _synchronised(run)
                    save_state(run.options.state, trainer, run.about)
    except KeyboardInterrupt:
        _synchronised(run)
        raise
    _synchronised(run)


def _synchronised(run: Run) -> None:
    """The trainer has what the accelerator has."""
    if run.accelerator is not None:
        run.accelerator.give_back()


def _told(run: Run, every: int, line: Line) -> None:
    """The last step: now and then as a result, else as progress."""
    report, steps = run.reports[-1], run.trainer.training.steps
    text = (f"step {report.step} of {steps}: loss {report.loss:.4f}, norm {report.norm:.3f}, "
            f"{run.saturated} saturated")
    if run.accelerator is not None:
        ran = run.accelerator.ran
        text += f", {ran.nars} NaR"
        if ran.compared:
            text += f", {ran.cycles} cycles, {ran.compared} bytes equal"
    if report.step % every == 0 or report.step in (1, steps):
        line.hide()
        print(text, flush=True)
    here = len(run.reports)  # of this run: one that goes on has made others before
    line.tell(here / (here + steps - report.step), text)


def _save(run: Run) -> None:
    """What was asked for; ``OSError``."""
    options = run.options
    if options.out is not None:
        save_adapters(options.out, run.trainer.model, run.trainer.adapters())
        print(f"adapters: {options.out}")
    if options.state is not None:
        save_state(options.state, run.trainer, run.about)
    if options.log is not None:
        with options.log.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "loss", "norm", "rate", "saturated", "nar"])
            rows.writerows((r.step, r.loss, r.norm, r.rate, *counts)
                           for r, counts in zip(run.reports, run.counts, strict=True))
    if options.curve is not None and run.reports:
        title = f"{run.about['model']}, {run.task.name}: loss"
        options.curve.write_text(curve([report.loss for report in run.reports], title))


def _writable(options: argparse.Namespace) -> None:
    """``ValueError`` for a place that cannot be written, before the work begins."""
    for name in ("out", "state", "log", "curve"):
        path = getattr(options, name)
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{name} must be in a folder that there is, not {str(path)!r}")


def _measured(run: Run, when: str) -> None:
    found = measured(run.trainer, run.task, run.options.quiet)
    print(f"{when}: {len(run.task.held_out)} held out: {found}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; 0, 1 where training failed or was interrupted, 2 for what cannot be trained."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        if options.memory:
            print("\n".join(memory_lines(options)))
            return 0
        _writable(options)
        with Line("prepared", quiet=options.quiet) as line:
            run = prepare(options, line)
        for line in (*run.task.notes, *run.trainer.training.warnings()):
            print(f"warning: {line}", file=sys.stderr)
        if options.check:
            return check(run.trainer, run.task.train)
        print(f"{options.model}, {run.task.name}: {len(run.task.train)} examples, "
              f"{sum(v.size for v in run.trainer.updater.values.values())} trained items")
        _measured(run, "before")
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    code = 0
    try:
        _train(run)
    except (NotFinite, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(f"interrupted after step {run.trainer.updater.steps}", file=sys.stderr)
        code = 1
    _measured(run, "after")
    if run.trainer.training.beside:
        print(f"merged: {len(run.task.held_out)} held out: "
              f"{measured(merged(run.trainer), run.task, options.quiet)}", flush=True)
    try:
        _save(run)
    except OSError as error:
        parser.error(f"results must be writable files, not {error.filename!r}: {error.strerror}")
    return code


if __name__ == "__main__":
    sys.exit(piped(main))
