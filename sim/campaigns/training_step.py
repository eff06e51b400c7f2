"""One step of a small model's training on RTL: programs one after another on one memory, every byte
of it compared with the machine model's after each."""

from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints import samples
from compiler.checkpoints.inputs import Inputs
from compiler.program.start import Ran, Start
from compiler.training.description import LowRank, Training
from compiler.training.gradients.network import Batch
from compiler.training.gradients.softmax import usual_backward
from compiler.training.programs.host import Host
from compiler.training.programs.lower import lower_training
from compiler.training.tasks import with_head
from compiler.training.trainer import Trainer
from hdl.spec.config import AcceleratorConfig

__all__ = ["Counted", "train_small"]

_TOKENS, _IDS, _CLASSES, _BATCH = 8, 50, 3, 4  # ids: those of the sample's table


@dataclass
class Counted:
    """Starts programs by ``start`` and adds up what they did."""

    start: Start
    programs: int = 0
    bytes: int = 0
    cycles: int = 0

    def __call__(self, memory: np.ndarray, address: int, base: int) -> Ran:
        ran = self.start(memory, address, base)
        self.programs += 1
        self.bytes += ran.compared
        self.cycles += ran.cycles
        return ran


def train_small(config: AcceleratorConfig, start: Start, seed: int = 0) -> Counted:
    """A small BERT with adapters on all matrices: gradients of two micro-batches for their scales,
    then one update of AdamW, on padded sentences of 1 to 8 random ids.

    What ``start`` raises; ``ValueError`` where ``config`` does not train.
    """
    model = with_head(replace(samples.bert(), pooling="mean"), _CLASSES)
    training = Training(
        LowRank(rank=4), rate=4e-3, steps=10, batch=_BATCH, micro=_BATCH // 2, seed=seed,
        backward=usual_backward(config.softmax))
    rng = np.random.default_rng(seed)
    valid = np.arange(_TOKENS) < rng.integers(1, _TOKENS + 1, (_BATCH, 1))
    batch = Batch(rng.integers(0, _IDS, (_BATCH, _TOKENS)),
                  rng.integers(0, _CLASSES, _BATCH), valid)
    micro = batch.part(slice(0, training.micro))
    program = lower_training(config, model, training, Inputs("ids", micro.inputs, micro.valid),
                             seed=seed)
    counted = Counted(start)
    host = Host(program, training, "classes", counted,
                Trainer(model, training, "classes").updater.values)
    host.calibrate(batch)
    host.step(batch, training.rate_at(training.warm_steps))
    return counted
