"""Gradients of one batch in the accelerator's arithmetic against float64, tensor by tensor."""

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.network import Batch
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.gradients.partly import Partly
from compiler.training.gradients.weights import Adapter
from compiler.training.trainer import Trainer, batches, initial_adapters
from sim.verify.report import cosine

__all__ = ["check"]

# B starts at zero, where A has no gradient: it is moved by as much as training does at first.
_MOVED = 0.02


def check(trainer: Trainer, examples: Batch) -> int:
    """Print the cosine of each trained tensor's gradient to that of float64, with adapters whose B
    is random, and of all, and of adapters without the head, cosine, share of equal signs and norm,
    also to those of the same forward pass with gradients that are not rounded; 0, or 1 where one
    is not finite."""
    training, rng = trainer.training, np.random.default_rng(trainer.training.seed)
    moved = {layer: Adapter(own.a, rng.normal(0, _MOVED, own.b.shape).astype(np.float32), own.scale)
             for layer, own in initial_adapters(trainer.model, training).items()}
    own = Trainer(trainer.model, training, trainer.kind, trainer.numerics, trainer.updater.masters,
                  moved)
    batch = next(batches(examples, training.batch, training.seed))
    own.calibrate(batch)
    _, found = own.gradients(batch)
    true = own.again(Exact())
    _, wanted = true.gradients(batch)
    for name in own.names:
        print(f"{name}: cosine {cosine(found[name], wanted[name]):.5f}, norm "
              f"{np.linalg.norm(found[name]):.3e} of {np.linalg.norm(wanted[name]):.3e}")
    if isinstance(own.numerics, EightBit):
        _, unrounded = own.again(Partly(
            own.numerics.config, ["gradients"], backward=training.backward)).gradients(batch)
        print("rounding of gradients alone: " + _compared(own.names, found, unrounded))
    alone = [name for name in own.names if not name.startswith("head.")]
    if alone and len(alone) < len(own.names):
        print("without the head: " + _compared(alone, found, wanted) + " of float64's")
    print(f"all {sum(found[name].size for name in own.names)} items: "
          + _compared(own.names, found, wanted) + " of float64's")
    return 0 if all(np.isfinite(part[name]).all()
                    for part in (found, wanted) for name in own.names) else 1


def _compared(names: Sequence[str], found: Mapping[str, Array], wanted: Mapping[str, Array]) -> str:
    every = [np.concatenate([part[name].ravel() for name in names]) for part in (found, wanted)]
    same = np.mean(np.sign(every[0]) == np.sign(every[1]))
    return (f"cosine {cosine(*every):.5f}, signs {same:.4f}, "
            f"norm {np.linalg.norm(every[0]) / np.linalg.norm(every[1]):.4f}")
