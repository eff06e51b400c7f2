"""Adapters in the files of peft."""

import json
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import save_file

__all__ = ["arrays", "pair", "write"]

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none", "fan_in_fan_out": False}


def write(folder, tensors, **config):
    """A folder as peft lays it out, with changes to its settings."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def pair(module, outputs, inputs, rank=2, seed=0):
    """Both matrices of an adapter of ``module``."""
    rng = np.random.default_rng(seed)
    return {f"base_model.model.{module}.lora_{part}.weight":
            rng.normal(0, 0.3, shape).astype(np.float32)
            for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank)))}


def arrays(part):
    """All arrays of a part of a description, or of several."""
    if isinstance(part, np.ndarray):
        yield part
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for item in part:
            yield from arrays(item)
    elif hasattr(part, "__dataclass_fields__"):
        for item in vars(part).values():
            yield from arrays(item)
