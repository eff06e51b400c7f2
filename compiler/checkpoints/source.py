"""Models by name or path with something to read: what ``python -m sim.run`` runs."""

from collections.abc import Sequence

import numpy as np

from compiler.checkpoints import NAMES, load, model_inputs, reference
from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import SAMPLES, inputs_for

__all__ = ["MODELS", "fp32_states", "open_model", "read"]

TOKENS = 32
MODELS = (*NAMES, *SAMPLES)


def open_model(name: str, offline: bool = False, seed: int = 0) -> Transformer:
    """The model of that name (``MODELS``) or the checkpoint at that path; raises as
    ``compiler.checkpoints.load``."""
    return SAMPLES[name](seed) if name in SAMPLES else load(name, offline=offline)


def read(name: str, model: Transformer, tokens: int | None, offline: bool = False, seed: int = 0
         ) -> Inputs:
    """``tokens`` positions for ``model``: of the project's text, or random ones for samples.

    ``None``: 32, or as many patches as the model has positions for.
    """
    embedding = (model.encoder or model).embedding
    if isinstance(embedding, Patches) and embedding.convolution is not None:
        raise ValueError(f"{model.name} reads sound, which must be given")
    if tokens is None:
        tokens = len(embedding.positions) if isinstance(embedding, Patches) else TOKENS
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens!r}")
    if name in SAMPLES:
        return inputs_for(model, tokens, seed=seed)
    values = model_inputs(name, tokens, offline=offline)
    return Inputs("patches" if isinstance(embedding, Patches) else "ids", values[None])


def fp32_states(model: Transformer, given: Inputs, layers: Sequence[int]
                ) -> dict[str, np.ndarray]:
    """In fp32: ``embedding``, what enters the first of ``layers``; ``layer i`` of each; ``output``
    where the last layer is among them. Rows by sequence and position, of ``output`` by sequence;
    those that only pad a sequence are NaN.
    """
    found: dict[str, list[np.ndarray]] = {}
    for index, sequence in enumerate(given.values):
        valid = (np.ones(given.length, bool) if given.valid is None else given.valid[index])

        def keep(name: str, rows: np.ndarray, valid: np.ndarray = valid) -> None:
            if len(rows) == valid.sum():
                every = np.full((len(valid), rows.shape[1]), np.nan, rows.dtype)
                every[valid] = rows
                rows = every
            found.setdefault(name, []).append(rows.astype(np.float32))

        x = sequence if given.kind == "states" else reference.embed(
            model.embedding, sequence,
            segments=None if given.segments is None else given.segments[index])
        x = x[valid]
        encoded = _encoded(model, given, index)
        if given.kind != "states":
            for number in range(layers[0]):
                x = reference.run_block(model.blocks[number], x, encoded=encoded)
        keep("embedding", x)
        for number in layers:
            x = reference.run_block(model.blocks[number], x, encoded=encoded)
            keep(f"layer {number}", x)
        if layers[-1] == len(model.blocks) - 1:
            output = reference.finish(model, x)
            if model.pooling == "none":
                keep("output", output)
            else:
                found.setdefault("output", []).append(output)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _encoded(model: Transformer, given: Inputs, index: int) -> np.ndarray | None:
    """What the encoder gives for a sequence of the source, if there is one."""
    if given.source is None:
        return None
    values = given.source.values[index]
    return reference.encode(
        model, values if given.source.valid is None else values[given.source.valid[index]])
