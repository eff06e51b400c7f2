"""Slopes of activations in commands that every build of all functions has.

With σ the sigmoid and ρ 1 for SiLU, 1.702 for GELU's sigmoid form: the slope is
σ(ρx) · (1 + ρx · σ(−ρx)). That of GELU itself has no such form: its secant over a short interval is
taken in its place.
"""

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand

__all__ = ["SECANT", "gelu_secant", "sigmoid_slope"]

SECANT = 2.0 ** -3
_KEEP: Fields = {"destination": Destination.BUFFER}
_STORE: Fields = {"destination": Destination.MEMORY}


def sigmoid_slope(builder: ProgramBuilder, x: Tensor, out: Tensor, rate: float = 1.0) -> None:
    """out = the slope of x · σ(``rate`` · x). A row must stay on chip; two commands.

    t = x · σ(−ρx), then −ρt − 1, kept as BF16; then σ(ρx) times that, times −1.
    """
    between = builder.empty(*x.shape, "bf16", name=f"{x.name} slope")
    builder.vector(x, between, Epilogue(-rate, x, imm1=1.0, instructions=(
        Instruction(multiply=Operand.IMM0, function=Function.SIGMOID, scale=Operand.Y, **_KEEP),
        Instruction(multiply=Operand.IMM0, add=Operand.IMM1, subtract=True, **_STORE))))
    builder.vector(x, out, Epilogue(rate, between, imm1=-1.0, instructions=(
        Instruction(multiply=Operand.IMM0, function=Function.SIGMOID, scale=Operand.Y, **_KEEP),
        Instruction(multiply=Operand.IMM1, **_STORE))))


def gelu_secant(builder: ProgramBuilder, x: Tensor, out: Tensor, way: float = SECANT) -> None:
    """out = (GELU(x + ``way``) − GELU(x − ``way``)) / (2 · ``way``). A row must stay on chip."""
    above = builder.empty(*x.shape, "bf16", name=f"{x.name} above")
    builder.vector(x, above, Epilogue(way, instructions=(
        Instruction(add=Operand.IMM0, function=Function.GELU, **_STORE),)))
    builder.vector(x, out, Epilogue(way, above, imm1=-0.5 / way, instructions=(
        Instruction(add=Operand.IMM0, subtract=True, function=Function.GELU, **_KEEP),
        Instruction(add=Operand.Y, subtract=True, scale=Operand.IMM1, **_STORE))))
