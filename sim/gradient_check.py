"""Gradients of one batch in the accelerator's arithmetic against float64, tensor by tensor."""

import numpy as np

from compiler.training.gradients.network import Batch
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.weights import Adapter, lora_names
from compiler.training.trainer import Trainer, batches, initial_adapters
from sim.verify.report import cosine

__all__ = ["check"]

# B starts at zero, where A has no gradient: it is moved by as much as training does at first.
_MOVED = 0.02


def check(trainer: Trainer, examples: Batch) -> int:
    """Print the cosine of each trained tensor's gradient to that of float64, with adapters whose B
    is random, and the cosine of all; 0, or 1 where one is not finite."""
    training, rng = trainer.training, np.random.default_rng(trainer.training.seed)
    moved = {layer: Adapter(own.a, rng.normal(0, _MOVED, own.b.shape).astype(np.float32), own.scale)
             for layer, own in initial_adapters(trainer.model, training).items()}
    own = Trainer(trainer.model, training, trainer.kind, trainer.numerics, trainer.updater.masters,
                  moved)
    batch = next(batches(examples, training.batch, training.seed))
    own.calibrate(batch)
    _, found = own.gradients(batch)
    values = own.updater.values
    true = Trainer(own.model, training, own.kind, Exact(), "float", {
        layer: Adapter(values[lora_names(layer)[0]], values[lora_names(layer)[1]],
                        adapter.scale)
        for layer, adapter in moved.items()})
    for name in own.names:
        if "lora" not in name:
            true.weights.set(name, values[name].astype(np.float64))
    _, wanted = true.gradients(batch)
    for name in own.names:
        print(f"{name}: cosine {cosine(found[name], wanted[name]):.5f}, norm "
              f"{np.linalg.norm(found[name]):.3e} of {np.linalg.norm(wanted[name]):.3e}")
    every = [np.concatenate([part[name].ravel() for name in own.names]) for part in (found, wanted)]
    print(f"all {every[0].size} items: cosine {cosine(*every):.5f}, norm "
          f"{np.linalg.norm(every[0]) / np.linalg.norm(every[1]):.4f} of float64's")
    return 0 if all(np.isfinite(part).all() for part in every) else 1
