"""Epilogues of the backward pass: lists of instructions that inference's commands already have.

Each docstring gives what is computed, in the order in which it is rounded: every operation once to
the lane's type, row sums in FP32. ``factor`` is what brings one gradient tensor's scale to that of
the next. The mathematics is that of ``compiler.training.gradients``.
"""

from compiler.lowering.lists import CENTRED, means
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand, Post, Reduce

__all__ = ["RELU_STEEP", "SIGMOID_RATE", "accumulate", "accurate_softmax", "activation_slope",
           "clip_factor", "cross_entropy_backward", "layer_norm_backward", "less_labels",
           "pooling_backward", "relu_backward", "rms_norm_backward", "row_squares", "row_sums",
           "softmax_backward"]

# tanh of any positive number of 8 bits times this is 1; the smallest is 2^-26.
RELU_STEEP = 2.0 ** 60
SIGMOID_RATE = 1.702  # ρ of GELU's sigmoid form
_KEEP: Fields = {"destination": Destination.BUFFER}
_STORE: Fields = {"destination": Destination.MEMORY}


def softmax_backward(p: Tensor, factor: float, centred: bool = False) -> Epilogue:
    """Of x = ∂/∂P: g = x · ``factor``, R = Σ g ⊙ P, then (g − R) ⊙ P.

    ``centred``: d = g − R, R′ = Σ d ⊙ P, then (d − R′) ⊙ P, whose rows add up to zero much better
    where those of P do not add up to 1; then a row must stay on chip.
    """
    g: Fields = {"multiply": Operand.IMM0}
    weighed: Fields = {"scale": Operand.Y}
    total = Instruction(**g, **weighed, reduce=Reduce.SUM)
    if not centred:
        return Epilogue(factor, p, instructions=(
            total, Instruction(**g, **CENTRED, **weighed, **_STORE)))
    return Epilogue(factor, p, instructions=(
        total,
        Instruction(**g, **CENTRED, **_KEEP),
        Instruction(multiply=Operand.Y, reduce=Reduce.SUM, reduce_to=1),
        Instruction(add=Operand.R1, subtract=True, **weighed, **_STORE)))


def layer_norm_backward(h: Tensor, eps: float, factor: float = 1.0,
                        residual: Tensor | None = None, after: float = 1.0, *,
                        twice: bool = False) -> Epilogue:
    """Of the norm's input x, with h = γ ⊙ ∂/∂y: the gradient of x, times ``factor``; with a
    ``residual``, (that + ``residual``) · ``after``.

    c = x − μ, x̂ = c · r with r = 1/√(mean c² + ``eps``); m = mean(x̂ ⊙ h), t = (x̂ · m − h) ·
    (−``factor``), then (t − mean t) · r. A row must stay on chip. ``twice``: c as the norm has it,
    see ``lists.means``.
    """
    mean: Fields = {"reduce": Reduce.SUM, "post": Post.MEAN}
    end = (Instruction(**CENTRED, scale=Operand.R1, **_STORE),) if residual is None else (
        Instruction(**CENTRED, scale=Operand.R1, **_KEEP),
        Instruction(add=Operand.Y, y=1, scale=Operand.IMM1, **_STORE))
    return Epilogue(-factor, h, imm1=after, y1=residual, inverse_n=1 / h.columns, epsilon=eps,
                    instructions=(
        *means(twice),
        Instruction(**CENTRED, scale=Operand.SELF, reduce=Reduce.SUM, reduce_to=1,
                    post=Post.INVERSE_SQRT),
        Instruction(**CENTRED, scale=Operand.R1, **_KEEP),
        Instruction(multiply=Operand.Y, **mean),
        Instruction(multiply=Operand.R0, add=Operand.Y, subtract=True, scale=Operand.IMM0, **mean,
                    **_KEEP),
        *end))


def rms_norm_backward(h: Tensor, eps: float, factor: float = 1.0,
                      residual: Tensor | None = None, after: float = 1.0) -> Epilogue:
    """As ``layer_norm_backward`` without the means of x and of t: x̂ = x · r, m = mean(x̂ ⊙ h), then
    (x̂ · m − h) · (−``factor``) · r."""
    added: Fields = {} if residual is None else {"add": Operand.Y, "y": 1, "scale": Operand.IMM1}
    return Epilogue(-factor, h, imm1=after, y1=residual, inverse_n=1 / h.columns, epsilon=eps,
                    instructions=(
        Instruction(multiply=Operand.SELF, reduce=Reduce.SUM, reduce_to=1, post=Post.INVERSE_SQRT),
        Instruction(multiply=Operand.R1, **_KEEP),
        Instruction(multiply=Operand.Y, reduce=Reduce.SUM, post=Post.MEAN),
        Instruction(multiply=Operand.R0, add=Operand.Y, subtract=True, scale=Operand.IMM0, **_KEEP),
        Instruction(multiply=Operand.R1, **added, **_STORE)))


def activation_slope(activation: str) -> Epilogue:
    """f′(x) of a gelu, gelu_sigmoid, relu or silu, in a build that trains; ``ValueError`` for
    others.

    GELU's sigmoid form x · σ(ρx) is silu(ρx) / ρ, so that its slope is silu′(ρx). ReLU's is
    tanh(x · 2^60), 0 below 0.
    """
    if activation == "relu":
        return Epilogue(RELU_STEEP, function=Function.TANH, relu=True)
    if activation == "gelu_sigmoid":
        return Epilogue(SIGMOID_RATE, function=Function.SILU_SLOPE)
    if activation in ("gelu", "silu"):
        return Epilogue(function=Function[f"{activation.upper()}_SLOPE"])
    raise ValueError("activation must be gelu, gelu_sigmoid, relu or silu to be trained through on "
                     f"the accelerator, not {activation!r}")


def relu_backward(d: Tensor | None = None) -> Epilogue:
    """Of ReLU's result x, stored in 8 bits: 1 where x > 0, else 0; times ``d`` where it is given.
    tanh(x · 2^60) is exactly that."""
    scale = Operand.NONE if d is None else Operand.Y
    return Epilogue(RELU_STEEP, d, instructions=(
        Instruction(multiply=Operand.IMM0, function=Function.TANH, scale=scale, **_STORE),))


def accumulate(total: Tensor, factor: float = 1.0) -> Epilogue:
    """x · ``factor`` + ``total``, which may be the result's own place."""
    return Epilogue(factor, total)


def accurate_softmax(mask: Tensor | None = None) -> Epilogue:
    """Softmax of each row of x without the build's exp and reciprocal, for losses: d = x − max,
    e = 1/(1/σ(d) − 1) with 1/y = (1/√y)², then e · (1/√Σe) · (1/√Σe). ``mask`` is added to x
    before: 0, and the most negative number where nothing is to be."""
    first = Instruction(reduce=Reduce.MAX) if mask is None else Instruction(
        add=Operand.Y, reduce=Reduce.MAX, **_KEEP)
    inverse: Fields = {"function": Function.INVERSE_SQRT, "scale": Operand.SELF, **_KEEP}
    return Epilogue(bias=mask, imm1=1.0, inverse_n=1.0, instructions=(
        first,
        Instruction(add=Operand.R0, subtract=True, function=Function.SIGMOID, **_KEEP),
        Instruction(**inverse),
        Instruction(add=Operand.IMM1, subtract=True, **inverse, reduce=Reduce.SUM, reduce_to=1,
                    post=Post.INVERSE_SQRT),
        Instruction(multiply=Operand.R1, scale=Operand.R1, **_STORE)))


def cross_entropy_backward(p: Tensor, factor: float) -> Epilogue:
    """Of rows e of an identity matrix, gathered by the labels: (e − ``p``) · (−``factor``), with
    ``factor`` 1 over the number of rows, times the scale of the loss's gradient."""
    return Epilogue(-factor, p, instructions=(
        Instruction(add=Operand.Y, subtract=True, scale=Operand.IMM0, **_STORE),))


def less_labels(labels: Tensor, factor: float) -> Epilogue:
    """Of probabilities: (p − ``labels``) · ``factor``, the bits of ``cross_entropy_backward``."""
    return Epilogue(factor, labels, instructions=(
        Instruction(add=Operand.Y, subtract=True, scale=Operand.IMM0, **_STORE),))


def pooling_backward(gamma: Tensor, factor: float) -> Epilogue:
    """Of a sequence's gathered gradient: times ``factor``, 1 over the positions of a mean with what
    scales it, times ``gamma``, the gain of the norm before the pooling."""
    return Epilogue(factor, gamma, instructions=(
        Instruction(multiply=Operand.IMM0, scale=Operand.Y, **_STORE),))


def row_squares() -> Epilogue:
    """Σ x² of each row, one item per row (``row_result``)."""
    return _row_sums(Operand.SELF)


def row_sums() -> Epilogue:
    """Σ x of each row, one item per row."""
    return _row_sums(Operand.NONE)


def _row_sums(weight: Operand) -> Epilogue:
    return Epilogue(0.0, row_result=True, instructions=(
        Instruction(multiply=weight, reduce=Reduce.SUM),
        Instruction(multiply=Operand.IMM0, add=Operand.R0, **_STORE)))


def clip_factor(limit: float) -> Epilogue:
    """Of the squares of all rows in one row: min(1, ``limit`` / √Σ), in every item of the row.

    n² is Σ over the square of ``limit``, the factor 1/√(relu(n² − 1) + 1): exactly 1 where the norm
    is within the limit.
    """
    return Epilogue(0.0, imm1=1.0, inverse_n=1 / limit ** 2, instructions=(
        Instruction(reduce=Reduce.SUM, post=Post.MEAN),
        Instruction(multiply=Operand.IMM0, add=Operand.R0, **_KEEP),
        Instruction(add=Operand.IMM1, subtract=True, relu=True, **_KEEP),
        Instruction(add=Operand.IMM1, function=Function.INVERSE_SQRT, **_STORE)))
