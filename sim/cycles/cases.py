"""Commands and programs that the cycle model is held against: every kind, many shapes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compiler.lowering import lists
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import STORE, Epilogue
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from hdl.spec.commands import Destination, Function, Operand, Post, Reduce
from sim.cycles.scaled_cases import scaled_cases

__all__ = ["cases"]

Case = Callable[[ProgramBuilder], None]
_MEMORY, _BUFFER = Destination.MEMORY, Destination.BUFFER
_SKEWS = {"dense": 0, "odd": 5, "skew": 3}


def _place(builder: ProgramBuilder, place: str) -> dict[str, Any]:
    """Where tensors lie: as they come, or some bytes after a multiple of the bus; BF16 is even."""
    item = builder.config.format.storage_bytes
    return {"skew": _SKEWS[place] // item * item, "align": 64 if place == "skew" else None}


def _gemm(m: int, k: int, n: int, epilogue: Epilogue = STORE, *, place: str = "dense",
          bias: str = "", y1: bool = False, wide: bool = False, bias_wide: bool = False,
          a_transposed: bool = False, b_transposed: bool = False, out_transposed: bool = False
          ) -> Case:
    """A GEMM; ``bias``: ``row`` or ``full``; ``y1``: a second addend of the epilogue."""
    def emit(builder: ProgramBuilder) -> None:
        where = _place(builder, place)

        def tensor(rows: int, columns: int, transposed: bool = False, kind: str | None = None):
            shape = (columns, rows) if transposed else (rows, columns)
            return builder.empty(*shape, kind, **({} if kind else where))

        given = epilogue
        if bias:
            given = replace(given, bias=tensor(1 if bias == "row" else m, n,
                                               kind="bf16" if bias_wide else None))
        if y1:
            given = replace(given, y1=tensor(m, n))
        a, b = tensor(m, k, a_transposed), tensor(k, n, b_transposed)
        out = tensor(m, n, out_transposed, "bf16" if wide else None)
        builder.gemm(a, b, out, given, a_transposed=a_transposed, b_transposed=b_transposed,
                     out_transposed=out_transposed)
    return emit


def _vector(m: int, n: int, epilogue: Epilogue = STORE, *, x_wide: bool = False,
            wide: bool = False, bias: str = "", place: str = "dense",
            out_transposed: bool = False) -> Case:
    def emit(builder: ProgramBuilder) -> None:
        where = _place(builder, place)
        x = builder.empty(m, n, "bf16" if x_wide else None, **({} if x_wide else where))
        given = epilogue
        if bias:
            given = replace(given, bias=builder.empty(1 if bias == "row" else m, n))
        shape = (n, m) if out_transposed else (m, n)
        builder.vector(x, builder.empty(*shape, "bf16" if wide else None), given,
                       out_transposed=out_transposed)
    return emit


def _norm(m: int, n: int, name: str, *, x_wide: bool = False) -> Case:
    """``layer_norm`` or ``rms_norm``: a mean and an inverse square root per row."""
    def emit(builder: ProgramBuilder) -> None:
        x, gain = builder.empty(m, n, "bf16" if x_wide else None), builder.empty(1, n)
        shift = [builder.empty(1, n, "bf16")] if name == "layer_norm" else []
        epilogue = getattr(lists, name)(gain, *shift, 1e-5)
        builder.vector(x, builder.empty(m, n, "bf16"), epilogue)
    return emit


def _means(m: int, n: int, *, k: int = 0, transposed: bool = False, x_wide: bool = False) -> Case:
    """The mean of each row, one item per row; of a GEMM's rows with ``k``."""
    def emit(builder: ProgramBuilder) -> None:
        out = builder.empty(*((1, m) if transposed else (m, 1)), "bf16")
        if k:
            builder.gemm(builder.empty(m, k), builder.empty(k, n), out, lists.row_mean(n),
                         out_transposed=transposed)
        else:
            builder.vector(builder.empty(m, n, "bf16" if x_wide else None), out,
                           lists.row_mean(n), out_transposed=transposed)
    return emit


def _gather(m: int, n: int, rows: int, *, x_wide: bool = False, scattered: bool = False) -> Case:
    """``m`` rows of a table of ``rows``; the last one always, or ``scattered``."""
    def emit(builder: ProgramBuilder) -> None:
        numbers = [row * 37 % rows if scattered else rows - 1 for row in range(m)]
        kind = "bf16" if x_wide else None
        builder.gather(builder.empty(rows, n, kind), builder.indices(numbers),
                       builder.empty(m, n, kind))
    return emit


def _several(*parts: Case, fenced: bool = False) -> Case:
    def emit(builder: ProgramBuilder) -> None:
        for index, part in enumerate(parts):
            if index and fenced:
                builder.fence()
            part(builder)
    return emit


def _normalise() -> Epilogue:
    """Passes through the bank, with both of Y: (x − max) × Y0 + Y1."""
    return Epilogue(instructions=(
        Instruction(reduce=Reduce.MAX, destination=_BUFFER),
        Instruction(add=Operand.R0, subtract=True, scale=Operand.Y, destination=_BUFFER),
        Instruction(add=Operand.Y, y=1, destination=_MEMORY)))


def _residual() -> Epilogue:
    """x + Y0 kept on chip, then + Y1."""
    return Epilogue(instructions=(Instruction(add=Operand.Y, destination=_BUFFER),
                                  Instruction(add=Operand.Y, y=1, destination=_MEMORY)))


def _attention(tokens: int, size: int) -> Case:
    """Scores with softmax, then P·V after its fence."""
    def emit(builder: ProgramBuilder) -> None:
        q, k, v = (builder.empty(tokens, size) for _ in range(3))
        scores, out = builder.empty(tokens, tokens), builder.empty(tokens, size)
        builder.gemm(q, k, scores, Epilogue(scale=0.25, softmax=True), b_transposed=True)
        builder.gemm(scores, v, out)
    return emit


def _gemms(d: int) -> dict[str, Case]:
    return {
        "gemm 1×1×1": _gemm(1, 1, 1),
        "gemm a tile": _gemm(d, d, d),
        "gemm 2 rows": _gemm(2, 3 * d, 3 * d),
        "gemm 3×5×7": _gemm(3, 5, 7),
        "gemm 48³": _gemm(48, 48, 48),
        "gemm 70×50×45": _gemm(70, 50, 45),
        "gemm 33×17×45 at odd addresses": _gemm(33, 17, 45, place="odd"),
        "gemm one K-tile": _gemm(200, d, 8 * d),
        "gemm one row tile": _gemm(d, 20 * d, 12 * d),
        "gemm one column tile": _gemm(160, 6 * d, d),
        "gemm long K": _gemm(24, 30 * d + 5, 2 * d),
        "gemm K beyond a bank": _gemm(20, 65 * d + 3, d + 2),
        "gemm K of many spans": _gemm(9, 200 * d, d),
        "gemm a row vector": _gemm(1, 60, 200),
        "gemm a column vector": _gemm(200, 60, 1),
        "gemm Aᵀ": _gemm(42, 36, 50, a_transposed=True),
        "gemm Aᵀ, one row": _gemm(1, 90, 40, a_transposed=True),
        "gemm Aᵀ, K beyond a bank": _gemm(20, 65 * d + 3, d + 2, a_transposed=True),
        "gemm Bᵀ": _gemm(42, 50, 37, b_transposed=True),
        "gemm Bᵀ at odd addresses": _gemm(30, 45, 52, b_transposed=True, place="skew"),
        "gemm Cᵀ": _gemm(45, 40, 50, out_transposed=True),
        "gemm Cᵀ, one K-tile": _gemm(45, d, 50, out_transposed=True),
        "gemm Aᵀ Bᵀ Cᵀ": _gemm(35, 45, 55, a_transposed=True, b_transposed=True,
                               out_transposed=True),
        "gemm scale, bias, ReLU": _gemm(48, 40, 56, Epilogue(scale=0.5, relu=True), bias="row"),
        "gemm bias of all items": _gemm(48, 40, 56, bias="full"),
        "gemm bias of all items, one K-tile": _gemm(70, d, 56, bias="full", place="odd"),
        "gemm BF16 bias and result": _gemm(40, 50, 60, bias="full", bias_wide=True, wide=True),
        "gemm BF16 result transposed": _gemm(40, 50, 30, wide=True, out_transposed=True),
        "gemm softmax": _gemm(60, 32, 60, Epilogue(scale=0.2, softmax=True), b_transposed=True),
        "gemm softmax, one K-tile": _gemm(100, d, 64, Epilogue(scale=0.2, softmax=True)),
        "gemm softmax, mask": _gemm(40, 20, 50, Epilogue(scale=0.2, softmax=True), bias="full"),
        "gemm softmax, transposed": _gemm(30, 20, 40, Epilogue(softmax=True), out_transposed=True),
        "gemm softmax of streamed rows": _gemm(2, d, 513 * d, Epilogue(softmax=True)),
        "gemm bias, GELU": _gemm(48, 40, 56, Epilogue(function=Function.GELU), bias="row",
                                 bias_wide=True),
        "gemm bias, residual": _gemm(60, 40, 5 * d, _residual(), bias="row", bias_wide=True,
                                     y1=True, wide=True),
        "gemm exp": _gemm(30, 2 * d, 50, Epilogue(instructions=(
            Instruction(multiply=Operand.IMM0, function=Function.EXP, destination=_MEMORY),))),
        "gemm passes through the bank": _gemm(40, 30, 50, _normalise(), bias="full", y1=True),
    }


def _vectors(d: int) -> dict[str, Case]:
    return {
        "vector copy": _vector(50, 70),
        "vector copy of an item": _vector(1, 1),
        "vector copy at odd addresses": _vector(31, 67, place="odd"),
        "vector to BF16": _vector(40, 60, wide=True),
        "vector from BF16": _vector(40, 60, x_wide=True),
        "vector BF16 to BF16": _vector(33, 35, x_wide=True, wide=True),
        "vector scale and bias": _vector(40, 61, Epilogue(scale=2.0), bias="row"),
        "vector sum": _vector(40, 61, bias="full"),
        "vector reciprocal": _vector(20, 64, Epilogue(function=Function.RECIPROCAL)),
        "vector softmax": _vector(60, 64, Epilogue(softmax=True)),
        "vector softmax, mask": _vector(40, 50, Epilogue(scale=0.5, softmax=True), bias="full"),
        "vector softmax of streamed rows": _vector(3, 513 * d, Epilogue(softmax=True)),
        "vector transpose": _vector(45, 52, out_transposed=True),
        "vector transpose to BF16": _vector(30, 22, wide=True, out_transposed=True),
        "vector long rows": _vector(4, 600 * d),
        "vector GELU to BF16": _vector(30, 50, Epilogue(function=Function.GELU), wide=True),
        "vector LayerNorm": _norm(30, 60, "layer_norm", x_wide=True),
        "vector LayerNorm of an item": _norm(1, 1, "layer_norm"),
        "vector LayerNorm of rows of one tile": _norm(70, d, "layer_norm"),
        "vector RMSNorm": _norm(30, 60, "rms_norm"),
        "vector RMSNorm of streamed rows": _norm(2, 513 * d, "rms_norm"),
        "vector gather": _gather(30, 40, 100),
        "vector gather of an item": _gather(1, 1, 1),
        "vector gather of BF16": _gather(19, 33, 1000, x_wide=True),
        "vector gather of wide rows": _gather(30, 24 * d, 500, scattered=True),
        "vector means": _means(45, 50),
        "vector means, transposed": _means(45, 50, transposed=True, x_wide=True),
        "gemm means": _means(30, 50, k=20),
        "vector passes through the bank": _vector(40, 50, Epilogue(instructions=(
            Instruction(reduce=Reduce.MAX, destination=_BUFFER),
            Instruction(add=Operand.R0, subtract=True, scale=Operand.Y, destination=_MEMORY))),
            bias="full"),
    }


def _programs(d: int) -> dict[str, Case]:
    small = _gemm(2 * d, 2 * d, 2 * d)
    return {
        "program: 4 GEMMs": _several(*[_gemm(26, 40, 30)] * 4),
        "program: 4 GEMMs, fenced": _several(*[_gemm(26, 40, 30)] * 4, fenced=True),
        "program: 8 small GEMMs": _several(*[small] * 8),
        "program: 5 copies": _several(*[_vector(20, 60)] * 5),
        "program: GEMM, copy, GEMM": _several(_gemm(40, 40, 40), _vector(30, 50), small),
        "program: softmaxes": _several(*[_gemm(48, d, 48, Epilogue(scale=0.5, softmax=True))] * 3),
        "program: attention": _attention(36, 24),
        "program: mixed": _several(
            _vector(9, 33, x_wide=True), _gemm(25, 30, 35, bias="row", wide=True),
            _vector(30, 30, Epilogue(softmax=True)), _gemm(20, 50, 20, a_transposed=True),
            _gemm(30, 20, 30, out_transposed=True), _vector(20, 30, out_transposed=True)),
    }


def _bert_base(d: int) -> dict[str, Case]:
    """What a layer of BERT-base is made of, at 128 positions: its GEMMs, the large ones in slices
    of columns, and its norm."""
    scores = Epilogue(scale=0.125, softmax=True)
    stored: dict[str, Any] = {"b_transposed": True, "bias": "row", "bias_wide": True}
    wide: dict[str, Any] = stored | {"epilogue": _residual(), "y1": True, "wide": True}
    return {
        "layer: projections": _gemm(128, 768, 12 * d, **stored),
        "layer: 3 heads' probabilities": _several(
            *[_gemm(128, 64, 128, scores, b_transposed=True)] * 3),
        "layer: 3 heads": _several(*[_gemm(128, 128, 64)] * 3),
        "layer: output, residual": _gemm(128, 768, 8 * d, **wide),
        "layer: feed-forward up, GELU": _gemm(128, 768, 12 * d, Epilogue(function=Function.GELU),
                                              **stored),
        "layer: feed-forward down, residual": _gemm(128, 3072, 4 * d, **wide),
        "layer: norm": _norm(128, 768, "layer_norm", x_wide=True),
    }


def _scaled(m: int, k: int, n: int, *, commands: int = 1, fenced: bool = False, amax: bool = False,
            bias: str = "") -> Case:
    """GEMMs with two scalars each, which ``fenced`` a command before each has written."""
    def emit(builder: ProgramBuilder) -> None:
        table = builder.empty(1, 2, "bf16")
        for _ in range(commands):
            if fenced:
                builder.vector(builder.empty(1, 1, "bf16"), table.block(0, 1, 1, 1))
            given = Epilogue(Scalar(table, 0), imm1=Scalar(table, 1), amax=amax, instructions=(
                Instruction(multiply=Operand.IMM0, add=Operand.Y if bias else Operand.NONE,
                            scale=Operand.IMM1, destination=_MEMORY),))
            _gemm(m, k, n, given, bias=bias)(builder)
    return emit


def _store_largest(builder: ProgramBuilder) -> None:
    """Register A times a scalar as a tensor of one item."""
    scale = Scalar(builder.empty(1, 1, "bf16"))
    builder.vector(builder.empty(1, 1, "bf16"), builder.empty(1, 1, "bf16"), Epilogue(
        0.0, imm1=scale, instructions=(Instruction(
            multiply=Operand.IMM0, add=Operand.A, scale=Operand.IMM1, destination=_MEMORY),)))


def _trains(d: int) -> dict[str, Case]:
    """What builds alone have that train."""
    power = Epilogue(imm1=64.0, row_result=True, instructions=(
        Instruction(reduce=Reduce.MAX, post=Post.POWER),
        Instruction(multiply=Operand.R0, scale=Operand.IMM1, destination=_MEMORY)))
    return {
        "gemm amax": _gemm(70, 50, 45, Epilogue(amax=True)),
        "gemm amax, bias of all items": _gemm(48, 40, 56, Epilogue(amax=True), bias="full"),
        "gemm amax, transposed": _gemm(45, 40, 50, Epilogue(amax=True), out_transposed=True),
        "gemm amax, one K-tile": _gemm(100, d, 64, Epilogue(amax=True)),
        "gemm amax of rows beyond a bank": _gemm(2 * d, 20, 520 * d, Epilogue(amax=True)),
        "gemm softmax, amax": _gemm(40, 20, 50, Epilogue(0.2, softmax=True, amax=True)),
        "vector slope, amax": _vector(40, 61, Epilogue(function=Function.GELU_SLOPE, amax=True)),
        "vector amax of long rows": _vector(4, 600 * d, Epilogue(amax=True)),
        "vector powers": lambda builder: builder.vector(
            builder.empty(12, 10, "bf16"), builder.empty(12, 1, "bf16"), power),
        "gemm of scalars": _scaled(30, 25, 35),
        "program: GEMMs of scalars": _scaled(26, 40, 30, commands=4, amax=True),
        "program: small GEMMs of scalars": _scaled(d, d, d, commands=6, bias="full"),
        "program: scalars after fences": _scaled(26, 40, 30, commands=4, fenced=True),
        "program: amax stored": _several(
            _gemm(30, 40, 50, Epilogue(amax=True)), _store_largest, _gemm(20, 20, 20)),
    }


def cases(dim: int, functions: str = "all") -> dict[str, Case]:
    """By name: emits a command, or several, that suit an array of ``dim``; with those for builds
    alone of these ``functions``."""
    more = {"training": _trains, "scales": scaled_cases}.get(functions)
    return (_gemms(dim) | _vectors(dim) | _programs(dim) | (_bert_base(dim) if dim == 16 else {})
            | ({} if more is None else more(dim)))
