"""Steps of a training run on the machine model or on the generated Verilog.

The trainer in numpy prepares the run and measures it; ``AcceleratorSteps`` takes its place step by
step and gives it back what was trained.
"""

import numpy as np

from compiler.lowering.place import Tell, silent
from compiler.program.start import Ran, Start
from compiler.program.tensor import Tensor
from compiler.training.gradients.network import Batch
from compiler.training.programs.host import Host
from compiler.training.programs.lower import TrainingProgram, lower_training
from compiler.training.trainer import NotFinite, StepReport, Trainer
from hdl.spec.config import AcceleratorConfig

__all__ = ["AcceleratorSteps"]

_MOMENTS = ("first", "second")


class AcceleratorSteps:
    """``trainer``'s steps as programs; ``run``: what starts them.

    ``batch``: one like all others of a step; ``tell`` hears how far lowering is. ``ValueError`` for
    what cannot be lowered.
    """

    def __init__(self, config: AcceleratorConfig, trainer: Trainer, batch: Batch, start: Start,
                 tell: Tell = silent) -> None:
        self.trainer, training = trainer, trainer.training
        self.program: TrainingProgram = lower_training(
            config, trainer.model, training, batch.part(slice(0, training.micro)).given(),
            kind=trainer.kind, tell=tell)
        updater = trainer.updater
        self.host = Host(self.program, training, trainer.kind, start, updater.values,
                         updater.lower)
        self.ran = Ran()
        if updater.steps:
            self._resume()

    def calibrate(self, batch: Batch) -> None:
        self.host.calibrate(batch)

    def step(self, batch: Batch) -> StepReport:
        """One update; ``NotFinite`` where there cannot be one, then what was trained before it is
        what ``give_back`` gives."""
        number = self.host.steps + 1
        rate = self.trainer.training.rate_at(number)
        loss, norm, self.ran = self.host.step(batch, rate)
        if not np.isfinite(loss) or not np.isfinite(norm):
            self.give_back(before=True)
            raise NotFinite(f"step {number}: loss {loss:g}, gradient norm {norm:g}")
        return StepReport(number, loss, norm, rate)

    def give_back(self, before: bool = False) -> None:
        """Put the trainer where this run is; ``before``: with the masters as they were before the
        last update, and nothing else."""
        host, state, updater = self.host, self.program.tensors.state, self.trainer.updater
        tensors: dict[str, Tensor | None] = {"high": state.high if before else state.moved}
        if not before:
            tensors |= {"low": state.low, "first": state.first, "second": state.second}
        rows = updater.state() | {
            name: updater.row(self.program.layout.arrays(host.read(tensor), self.program.shapes))
            for name, tensor in tensors.items() if tensor is not None}
        steps = host.steps - before
        self.trainer.resume(steps, rows, host.histories(min(steps + 1, 10)))

    def _resume(self) -> None:
        """Take moments, scales and the number of steps from the trainer."""
        host, state, updater = self.host, self.program.tensors.state, self.trainer.updater
        rows = updater.state()
        for name in _MOMENTS:
            tensor = getattr(state, name)
            if tensor is not None:
                host.write(tensor, self.program.layout.matrix(updater.arrays(rows[name])))
        host.steps = updater.steps
        host.set_histories(self.trainer.numerics.histories())
