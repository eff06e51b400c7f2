"""Codes of every result of attention heads, from the arithmetic models, without a program."""

from collections.abc import Sequence

import numpy as np

from compiler.checkpoints.heads import AttentionHeads
from hdl.spec.config import AcceleratorConfig
from sim.model import codec
from sim.verify.arithmetic import Arithmetic

__all__ = ["expected"]


def expected(config: AcceleratorConfig, layer: AttentionHeads, heads: Sequence[int]
             ) -> dict[str, np.ndarray]:
    """What ``compiler.lowering.heads.lower`` calls its results, each as its codes."""
    math = Arithmetic(config)
    x = math.stored(layer.x)
    values = {name: math.stored(math.linear(x, linear))
              for name, linear in layer.projections(heads).items()}
    scale = np.full((1, 1), math.wide(np.asarray(layer.scale)))
    outputs = []
    for index, head in enumerate(heads):
        part = slice(index * layer.head_size, (index + 1) * layer.head_size)
        scores = math.product(values["Q"][:, part], values["K"][:, part].T)
        values[f"P{head}"] = math.stored(math.softmax(math.multiply(scores, scale)))
        outputs.append(math.stored(math.product(values[f"P{head}"], values["V"][:, part])))
    values["O"] = np.concatenate(outputs, axis=1)
    return {name: codec.encode(math.encoding, item) for name, item in values.items()}
