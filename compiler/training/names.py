"""What transformers calls the linear layers of each family, which peft's files go by."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.description import Patches, Transformer

__all__ = ["Names", "names_of"]

_ROOT = "base_model.model."
_TENSOR = re.compile(r"(?:\w+\.)*?(?:encoder\.layer|layers)\.(\d+)\.([\w.]+?)\.lora_([AB])"
                     r"(?:\.default)?\.weight")
_BERT = {"query": "attention.self.query", "key": "attention.self.key",
         "value": "attention.self.value", "output": "attention.output.dense",
         "up": "intermediate.dense", "down": "output.dense"}
_VIT = _BERT | {part: f"attention.attention.{part}" for part in ("query", "key", "value")}
_LLAMA = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
          "output": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
          "down": "mlp.down_proj"}


@dataclass(frozen=True)
class Names:
    """``parts``: modules within a layer by part of the description. ``layers``: what stands before
    a layer's number; ``inner``: what stands before that in a model with a head of its own class."""

    parts: dict[str, str]
    layers: str
    inner: str
    task_type: str

    def module(self, layer: str, headed: bool = False) -> str:
        """The module of ``blocks.0.query`` say, as peft's tensors begin; ``headed``: of a model for
        spans or masked words."""
        _, index, part = layer.split(".")
        inner = self.inner if headed else ""
        return f"{_ROOT}{inner}{self.layers}.{index}.{self.parts[part]}"

    def layer(self, tensor: str) -> tuple[str, str] | None:
        """The layer and ``A`` or ``B`` that a tensor is of; None if it is of no such layer."""
        match = _TENSOR.fullmatch(tensor)
        by_module = {module: part for part, module in self.parts.items()}
        if match is None or match[2] not in by_module:
            return None
        return f"blocks.{int(match[1])}.{by_module[match[2]]}", match[3]

    def targets(self, parts: Collection[str]) -> list[str] | str:
        """``target_modules``: ends of module names, or an expression where the end of one is the
        end of another that is not meant."""
        chosen = [self.parts[part] for part in self.parts if part in parts]
        others = [module for part, module in self.parts.items() if part not in parts]
        if any(other.endswith(f".{module}") for other in others for module in chosen):
            every = "|".join(re.escape(module) for module in chosen)
            return rf".*{re.escape(self.layers)}\.\d+\.({every})"
        return chosen

    def to_halves(self, model: Transformer, layer: str, b: np.ndarray) -> np.ndarray:
        """Rows of a query's or key's B in the order of transformers: the first items of all
        rotary pairs of a head, then the second ones."""
        size = _interleaved(model, layer)
        if size is None:
            return b
        return b.reshape(-1, size // 2, 2, b.shape[1]).swapaxes(1, 2).reshape(b.shape)

    def from_halves(self, model: Transformer, layer: str, b: np.ndarray) -> np.ndarray:
        """The inverse of ``to_halves``."""
        size = _interleaved(model, layer)
        if size is None:
            return b
        return b.reshape(-1, 2, size // 2, b.shape[1]).swapaxes(1, 2).reshape(b.shape)


def _interleaved(model: Transformer, layer: str) -> int | None:
    """The size of heads whose rotary pairs are neighbours in the rows of ``layer``."""
    _, index, part = layer.split(".")
    attention = model.blocks[int(index)].attention
    if part not in ("query", "key") or not attention.rotary or not attention.rotary.interleaved:
        return None
    return attention.head_size


def names_of(model: Transformer) -> Names:
    """Those of the family that ``model`` is of, by what it is made of."""
    if isinstance(model.embedding, Patches):
        return Names(_VIT, "encoder.layer", "vit.", "FEATURE_EXTRACTION")
    if model.blocks[0].feed_forward.gate is not None:
        return Names(_LLAMA, "model.layers", "", "CAUSAL_LM")
    return Names(_BERT, "encoder.layer", "bert.", "FEATURE_EXTRACTION")
