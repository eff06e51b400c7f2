"""What training on the accelerator refuses: ``check``."""

import math

from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.lower import check_model, layer_range
from compiler.training.description import Training
from compiler.training.gradients.loss import LossKind
from hdl.spec.config import AcceleratorConfig

__all__ = ["check"]


def check(config: AcceleratorConfig, model: Transformer, training: Training, kind: LossKind,
          batch: Inputs) -> None:
    """``ValueError`` in one line for what cannot be lowered."""
    check_model(model, layer_range(model, None))
    batch.check(model)
    if config.functions != "training":
        raise ValueError(f"functions must be training in a build that trains, "
                         f"not {config.functions}")
    if model.head is None:
        raise ValueError(f"{model.name} must have a head to be trained")
    if kind == "spans":
        _check_spans(model)
    if any(block.attention.rotary is not None and block.attention.rotary.interleaved
           for block in model.blocks):
        raise ValueError(f"rotary pairs of {model.name} must lie in halves to be trained on the "
                         "accelerator, not interleaved; model_halves_first brings them there")
    if kind == "tokens":
        _check_tokens(model, batch)
    counts = kind == "tokens" or (kind == "vocabulary" and batch.valid is not None)
    if counts and training.micro != training.batch:
        raise ValueError(f"micro must be batch = {training.batch} where not every position counts "
                         "in the loss on the accelerator, padding or what has no label, for a "
                         f"micro-batch's share is not known before, not {training.micro}")
    if kind == "classes" and model.pooling not in ("first", "mean", "mean_l2"):
        raise ValueError(f"pooling of {model.name} must be first, mean or mean_l2 to be trained on "
                         f"the accelerator, not {model.pooling}")
    if model.pooling == "first" and batch.valid is not None and not batch.valid[:, 0].all():
        raise ValueError("the first position of each sequence must be valid where it is pooled")
    count, scale = training.batch // training.micro, getattr(training.method, "scale", 1.0)
    if count & (count - 1) and math.frexp(scale)[0] != 0.5:
        # A share that is rounded, of a product that is: neither may be part of the other's factor.
        raise ValueError(f"alpha over rank must be a power of two where batch over micro is none "
                         f"on the accelerator, not {scale:g} where it is {count}")
    if batch.sequences != training.micro:
        raise ValueError(f"a micro-batch must have {training.micro} sequences, "
                         f"not {batch.sequences}")
    if config.acc == "exact" and batch.sequences * batch.length > config.k_max:
        raise ValueError(f"micro must be at most {config.k_max // batch.length} with the exact "
                         f"accumulator: K of gradients is micro times {batch.length} positions, at "
                         f"most k_max = {config.k_max}")


def _check_tokens(model: Transformer, batch: Inputs) -> None:
    if batch.valid is None:
        raise ValueError("valid must be given of a batch with labels of tokens")
    if model.pooling != "none" or model.blocks[-1].attention.causal:
        raise ValueError(f"a loss over tokens takes a model that is not causal and pools nothing "
                         f"on the accelerator, which {model.name} is not")


def _check_spans(model: Transformer) -> None:
    outputs = len(model.head.weight)
    if outputs != 2 or model.pooling != "none":
        raise ValueError(f"head of {model.name} must give 2 logits of each position, pooling none, "
                         f"for a loss over spans, not {outputs} with pooling {model.pooling}")
    if model.blocks[-1].attention.causal:
        raise ValueError(f"a loss over spans takes a model that is not causal on the accelerator, "
                         f"which {model.name} is")
