"""LayerNorm and RMSNorm forward and back, in the order of the lists that the lanes run.

With h = γ ⊙ dy and x̂ the normalised row: dx = (h − x̂ · mean(x̂ ⊙ h) − mean(h)) / σ; RMSNorm leaves
the means of x and of h out. As mean(x̂) = 0, mean(h) is the mean of t = h − x̂ · mean(x̂ ⊙ h).
"""

from collections.abc import Callable

from compiler.checkpoints.description import Norm
from compiler.training.gradients.linear import rows_of
from compiler.training.gradients.numerics import Array
from compiler.training.gradients.weights import Run

__all__ = ["normalise"]


def normalise(run: Run, name: str, norm: Norm, x: Array, site: str
              ) -> tuple[Array, Callable[..., Array]]:
    """Lane values of ``norm`` over the last axis of ``x``, and ``back(d, residual)``.

    It takes lane values ``d``, multiplies them by γ and stores them (site h), and gives the stored
    gradient of x (site d), to which ``residual``, a stored gradient, is added where there is one.
    """
    n = run.numerics
    gain, shift = f"{name}.gain", f"{name}.shift"
    gamma = run.weights.stored(gain)
    if norm.shift is None:
        centred = x
        inverse = n.inverse_root(n.lane(x * x), norm.eps)
        y = n.lane(n.lane(x * inverse) * gamma)
    else:
        centred = n.lane(x - n.mean(x))
        if norm.centred_twice:
            centred = n.lane(centred - n.mean(centred))
        inverse = n.inverse_root(n.lane(centred * centred), norm.eps)
        y = n.lane(n.lane(n.lane(centred * gamma) * inverse) + run.weights.wide(shift))

    def back(d: Array, residual: Array | None = None) -> Array:
        unit = n.lane(centred * inverse)
        if run.wants((gain, shift)):
            run.add(gain, rows_of(d * unit).sum(axis=0))
            run.add(shift, rows_of(d).sum(axis=0))
        h = n.gradient(f"{site} h", n.lane(d * gamma))
        t = n.lane(h - n.lane(unit * n.mean(n.lane(unit * h))))
        if norm.shift is not None:
            t = n.lane(t - n.mean(t))
        result = n.lane(t * inverse)
        if residual is not None:
            result = n.lane(result + residual)
        return n.gradient(f"{site} d", result)

    return y, back
