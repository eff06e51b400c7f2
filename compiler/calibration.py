"""Scales of a model's operands out of what its fp32 reference reads: ``calibrate``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.checkpoints import reference, registry
from compiler.checkpoints.description import Attention, Linear, Transformer
from compiler.checkpoints.digits import DRAWN, patches
from compiler.checkpoints.samples import SAMPLES, inputs_for
from compiler.checkpoints.scales import LARGEST, Scales, ScalesError, modules, placed_linears
from compiler.checkpoints.text import CALIBRATION
from compiler.checkpoints.watch import watching
from compiler.examples import Example, examples_of, from_texts
from compiler.lowering.fusion import Fusion
from compiler.lowering.scaling import SCALES, STATIC, check_scales
from hdl.spec.config import AcceleratorConfig

__all__ = ["GRANULARITIES", "calibrate", "calibration_examples", "chosen_scales"]

GRANULARITIES = ("output", "tensor")
"""Of weights: a scale for each output, or one."""
_SAMPLED = 4  # random inputs


def calibration_examples(name: str, model: Transformer, *, tokens: int | None = None,
                         offline: bool = False, seed: int = 0) -> list[Example]:
    """What a model is calibrated on where nothing else is given: of a model that reads text the
    project's sentences ``text.CALIBRATION``, cut to ``tokens``, or to as many as it takes; of
    models of digits the ten drawn for them; of random models random inputs of another seed.
    ``ValueError`` for others."""
    if name in registry.DIGITS_MODELS:
        return examples_of(np.stack([patches(image) for image in DRAWN.values()]), model)
    if name in SAMPLES:
        most = model.positions or 32
        return examples_of(inputs_for(model, min(tokens or most, most), _SAMPLED, seed + 1), model)
    return from_texts(registry.tokenizer(name, offline=offline), CALIBRATION, model,
                      model.positions if tokens is None else tokens)


def calibrate(model: Transformer, examples: Sequence[Example], *, percentile: float = 100.0,
              weights: str = "output", tell: Callable[[float], None] = lambda share: None
              ) -> Scales:
    """Scales of all that products of ``model`` read when it runs on ``examples`` in fp32.

    A scale is 1/127 of the largest magnitude, or of that which ``percentile`` per cent of all items
    do not exceed, rounded up to BF16. ``weights``: one of ``GRANULARITIES``. ``ScalesError`` for
    models that read what another one gives.
    """
    if model.encoder is not None:
        raise ScalesError(f"{model.name} must be given its scales: what it reads depends on the "
                          "text that it gives")
    model = replace(model, blocks=tuple(model.blocks))  # one and the same arrays
    blocks = dict(enumerate(model.blocks))
    places, found = modules(model, blocks), dict[str, np.ndarray]()

    def note(part: Linear | Attention, what: str, values: np.ndarray) -> None:
        if isinstance(part, Linear):
            name = f"{places[id(part.weight)]}.{what}"
        else:
            name = f"{places[id(part.query.weight)].rpartition('.')[0]}.{what}"
        counts = _counts(values)
        found[name] = found[name] + counts if name in found else counts

    with np.errstate(over="ignore"), watching(note):
        for number, example in enumerate(examples, 1):
            reference.forward(model, example.values, segments=example.segments)
            tell(number / len(examples))
    codes = {name: _scale(_magnitude(counts, percentile)) for name, counts in found.items()}
    if weights == "tensor":
        for place, linear in placed_linears(model, blocks):
            most = np.abs(linear.weight).max() / LARGEST
            codes[f"{place}.weight"] = np.array([most], np.float32)
    return Scales(codes, {"model": model.name, "inputs": len(examples),
                          "positions": sum(example.length for example in examples),
                          "percentile": percentile, "weights": weights})


def chosen_scales(name: str | None, model_name: str, model: Transformer,
                  config: AcceleratorConfig, level: Fusion, offline: bool = False, seed: int = 0,
                  balanced: bool = False) -> str | Scales | None:
    """What ``--scales`` says: a name, the scales in a file, or of ``static`` those that calibration
    on ``calibration_examples`` finds; an ONNX file has its own. ``ValueError`` in one
    line, before any work, where the build or the level cannot have them, or a file's are not those
    of the ``model`` because it was ``balanced``."""
    if name is None or name in SCALES:
        return name
    path = Path(name)
    if name != STATIC and not path.exists():
        check_scales(name, config, level)  # refuses it
    check_scales(STATIC, config, level)
    if name != STATIC:
        if balanced:
            raise ValueError(f"scales must be {', '.join(SCALES)} or {STATIC} with --balance, not "
                             f"{name!r}: a file's are of the model as it was")
        if path.suffix != ".onnx":
            return Scales.load(path)
        from compiler.checkpoints.onnx.scales import load_scales  # a dozen modules

        return load_scales(path)
    return calibrate(model, calibration_examples(model_name, model, offline=offline, seed=seed))


# A magnitude counts at the BF16 word that it does not exceed: 15 bits.
_WORDS = 1 << 15


def _counts(values: np.ndarray) -> np.ndarray:
    """How many magnitudes each BF16 word is the least for that none of them exceeds."""
    bits = np.abs(values, dtype=np.float32).reshape(-1).view(np.uint32)
    return np.bincount((bits.astype(np.uint64) + 0xFFFF >> 16).astype(np.int64),
                       minlength=_WORDS)[:_WORDS]


def _magnitude(counts: np.ndarray, percentile: float) -> float:
    """The least BF16 number that ``percentile`` per cent of all magnitudes do not exceed."""
    up_to = np.cumsum(counts)
    word = int(np.searchsorted(up_to, np.ceil(up_to[-1] * percentile / 100)))
    return float(np.uint32(word << 16).view(np.float32))


def _scale(magnitude: float) -> np.ndarray:
    """A code's, BF16, so that ``magnitude`` is 127 at most; of a tensor of zeros 1."""
    if magnitude == 0:
        return np.ones(1, np.float32)
    bits = np.array([magnitude / LARGEST], np.float32).view(np.uint32)
    return ((bits.astype(np.uint64) + 0xFFFF >> 16) << 16).astype(np.uint32).view(np.float32)
