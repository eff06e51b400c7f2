"""Linear layers forward and back, their adapters among them.

With y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy. With W = W₀ + s B A, where neither W₀ nor the
product has a gradient of its own: T = x Aᵀ, U = dy B, dB = s dyᵀ T, dA = s Uᵀ x. Adapters that stay
beside their matrices: ``beside``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compiler.training.gradients.beside import Beside, rows_of
from compiler.training.gradients.numerics import Array
from compiler.training.gradients.weights import Run, lora_names

__all__ = ["bias_gradient", "linear", "linears_at_once", "rows_of"]


def linear(run: Run, name: str, x: Array, site: str) -> tuple[Array, Callable[..., Any]]:
    """``linears_at_once`` of one layer; back takes and gives arrays."""
    outputs, back = linears_at_once(run, [name], x, site)

    def back_one(d: Array, onward: bool = True) -> Array | None:
        return back([d], onward)

    return outputs[0], back_one


def linears_at_once(run: Run, names: Sequence[str], x: Array, site: str
                    ) -> tuple[list[Array], Callable[..., Array | None]]:
    """Layers ``names`` that read the same ``x``, … × inputs, which is stored.

    Gives each one's lane values, and ``back(ds, onward)``: of the stored gradients of the outputs
    it leaves those of weights, biases and adapters, and gives the gradient of x, lane values summed
    in the accumulators before they are rounded; None unless ``onward``. The gradients U of the
    adapters are one tensor, ``site`` U.
    """
    numerics, weights = run.numerics, run.weights
    matrices = [weights.stored(f"{name}.weight") for name in names]
    beside = Beside.of(run, names, x, site)
    outputs = []
    for name, matrix in zip(names, matrices, strict=True):
        y = numerics.product(x, matrix.T) if beside is None else beside.forward(name, x, matrix)
        if f"{name}.bias" in weights:
            y = numerics.lane(y + weights.wide(f"{name}.bias"))
        outputs.append(y)

    def back(gradients: Sequence[Array], onward: bool = True) -> Array | None:
        for name, gradient in zip(names, gradients, strict=True):
            _parameters(run, name, x, gradient)
        inward = None
        if beside is None:
            _adapters(run, names, x, gradients, site)
        else:
            inward = beside.gradients(gradients)
        if not onward:
            return None
        if beside is not None:
            return beside.back(gradients, inward, matrices)
        return numerics.product(np.concatenate(gradients, axis=-1), np.concatenate(matrices))

    return outputs, back


def _parameters(run: Run, name: str, x: Array, gradient: Array) -> None:
    if f"{name}.weight" in run.wanted:
        run.add(f"{name}.weight", run.numerics.product(rows_of(gradient).T, rows_of(x)))
    bias_gradient(run, name, gradient)


def bias_gradient(run: Run, name: str, gradient: Array) -> None:
    """That of the bias of ``name`` where it is wanted, of the stored one of its output."""
    if f"{name}.bias" in run.wanted:
        rows = rows_of(gradient)
        ones = np.ones((1, len(rows)), rows.dtype)
        run.add(f"{name}.bias", run.numerics.product(ones, rows)[0])


def _adapters(run: Run, names: Sequence[str], x: Array, gradients: Sequence[Array], site: str
              ) -> None:
    numerics = run.numerics
    found = [(name, rows_of(gradient), run.weights.adapter(name))
             for name, gradient in zip(names, gradients, strict=True)]
    found = [(name, d, own) for name, d, own in found
             if own is not None and run.wants(lora_names(name))]
    if not found:
        return
    x = rows_of(x)
    inner = numerics.stored(numerics.product(
        x, np.concatenate([own.a for _, _, own in found]).T))
    inward = numerics.gradient(
        f"{site} U", np.concatenate([numerics.product(d, own.b) for _, d, own in found], axis=1))
    start = 0
    for name, d, own in found:
        part = slice(start, start + len(own.a))
        start = part.stop
        scale = numerics.wide_constant(np.asarray(own.scale))
        a, b = lora_names(name)
        run.add(a, numerics.lane(numerics.product(inward[:, part].T, x) * scale))
        run.add(b, numerics.lane(numerics.product(d.T, inner[:, part]) * scale))
