"""Attention heads alone as one program.

Projections with bias, then for each head softmax(Q Kᵀ / √d) and P V, every operand and result in
the build's own storage format (the first of a hybrid's two), biases in BF16. Nothing is scaled
but the scores.
"""

from collections.abc import Sequence

from compiler.checkpoints.heads import AttentionHeads
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.image import ProgramImage
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig

__all__ = ["lower"]


def lower(config: AcceleratorConfig, layer: AttentionHeads, heads: Sequence[int], *,
          seed: int = 0, base: int = 0) -> LoweredProgram:
    """The program for consecutive ``heads``; bytes without content are random from ``seed``.

    Its results: ``Q K V O`` (T × heads · d, the heads' columns side by side) and ``P0 P1 …``
    (T × T, one for each head that was asked for).
    """
    tokens, size = layer.tokens, layer.head_size
    projections = layer.projections(heads)
    builder = ProgramBuilder(config, base)
    x = builder.constant(layer.x, name="X")
    results = {}
    for name, linear in projections.items():
        weight = builder.constant(linear.weight, name=f"W{name}")
        assert linear.bias is not None, "the layers of heads have biases"
        bias = builder.constant(linear.bias, "bf16", name=f"b{name}")
        results[name] = builder.empty(tokens, weight.rows, name=name)
        builder.gemm(x, weight, results[name], Epilogue(bias=bias), b_transposed=True)
    columns = {h: (0, index * size, tokens, size) for index, h in enumerate(heads)}
    for head in heads:
        q, k = (results[name].block(*columns[head]) for name in "QK")
        results[f"P{head}"] = builder.empty(tokens, tokens, name=f"P{head}")
        builder.gemm(q, k, results[f"P{head}"], Epilogue(scale=layer.scale, softmax=True),
                     b_transposed=True)
    results["O"] = builder.empty(tokens, len(heads) * size, name="O")
    for head in heads:
        builder.gemm(results[f"P{head}"], results["V"].block(*columns[head]),
                     results["O"].block(*columns[head]))
    builder.end()
    image = ProgramImage.of(builder, tuple(results.values()), seed=seed)
    macs = tokens * len(heads) * size * (3 * layer.x.shape[1] + 2 * tokens)
    return LoweredProgram(image, results, macs)
