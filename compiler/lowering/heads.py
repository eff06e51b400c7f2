"""Attention heads as one program, and the same heads straight from the reference models.

Projections with bias, then for each head softmax(Q Kᵀ / √d) and P V, every operand and result in
the build's own storage format (the first of a hybrid's two), biases in BF16. Nothing is scaled
but the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.layer import AttentionLayer
from compiler.program.builder import ProgramBuilder, read_codes
from compiler.program.image import ProgramImage
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING
from sim.model import accumulate, codec, lanes

__all__ = ["Comparison", "compare", "expected", "lower"]

PROJECTIONS = (("Q", "query"), ("K", "key"), ("V", "value"))


def _rows(layer: AttentionLayer, heads: Sequence[int]) -> slice:
    """The weight rows of consecutive ``heads``."""
    if list(heads) != list(range(heads[0], heads[0] + len(heads))):
        raise ValueError(f"heads must be consecutive, not {list(heads)!r}")
    return slice(layer.rows(heads[0]).start, layer.rows(heads[-1]).stop)


def lower(config: AcceleratorConfig, layer: AttentionLayer, heads: Sequence[int], *,
          seed: int = 0, base: int = 0) -> LoweredProgram:
    """The program for consecutive ``heads``; bytes without content are random from ``seed``.

    Its results: ``Q K V O`` (T × heads · d, the heads' columns side by side) and ``P0 P1 …``
    (T × T, one for each head that was asked for).
    """
    rows = _rows(layer, heads)
    tokens, size = layer.tokens, layer.head_size
    builder = ProgramBuilder(config, base)
    x = builder.constant(layer.x, name="X")
    results = {}
    for name, kind in PROJECTIONS:
        weight = builder.constant(getattr(layer, kind)[rows], name=f"W{name}")
        bias = builder.constant(getattr(layer, f"{kind}_bias")[rows], "bf16", name=f"b{name}")
        results[name] = builder.empty(tokens, weight.rows, name=name)
        builder.gemm(x, weight, results[name], b_transposed=True, bias=bias)
    columns = {h: (0, index * size, tokens, size) for index, h in enumerate(heads)}
    for head in heads:
        q, k = (results[name].block(*columns[head]) for name in "QK")
        results[f"P{head}"] = builder.empty(tokens, tokens, name=f"P{head}")
        builder.gemm(q, k, results[f"P{head}"], b_transposed=True, scale=layer.scale,
                     softmax=True)
    results["O"] = builder.empty(tokens, len(heads) * size, name="O")
    for head in heads:
        builder.gemm(results[f"P{head}"], results["V"].block(*columns[head]),
                     results["O"].block(*columns[head]))
    builder.end()
    image = ProgramImage.of(builder, tuple(results.values()), seed=seed)
    macs = tokens * len(heads) * size * (3 * layer.x.shape[1] + 2 * tokens)
    return LoweredProgram(image, results, macs)


def expected(config: AcceleratorConfig, layer: AttentionLayer, heads: Sequence[int]
             ) -> dict[str, np.ndarray]:
    """Codes of every result, as the results of ``lower``, computed without a program."""
    encoding, lane = config.format.encodings[0], config.lane
    rows = _rows(layer, heads)

    def stored(values: np.ndarray) -> np.ndarray:
        return codec.encode(encoding, values)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        values = codec.decode(encoding, a), codec.decode(encoding, b)
        return accumulate.product(config, *values)

    def bf16(values: np.ndarray) -> np.ndarray:
        return codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, np.float64(values)))

    found = {}
    for name, kind in PROJECTIONS:
        weight = stored(getattr(layer, kind)[rows])
        bias = bf16(getattr(layer, f"{kind}_bias")[rows])
        found[name] = stored(lanes.add(lane, product(stored(layer.x), weight.T), bias))
    outputs = []
    for index, head in enumerate(heads):
        part = slice(index * layer.head_size, (index + 1) * layer.head_size)
        scores = product(found["Q"][:, part], found["K"][:, part].T)
        scores = lanes.multiply(lane, scores, bf16(layer.scale))
        centred = lanes.subtract(lane, scores, lanes.row_max(lane, scores)[:, None])
        e = lanes.exp(config, centred)
        inverse = lanes.reciprocal(config, lanes.row_sum(lane, config.lanes, e))
        found[f"P{head}"] = stored(lanes.multiply(lane, e, inverse[:, None]))
        outputs.append(stored(product(found[f"P{head}"], found["V"][:, part])))
    return found | {"O": np.concatenate(outputs, axis=1)}


@dataclass(frozen=True)
class Comparison:
    """Bytes of each result that were compared and that differ, and bytes written elsewhere."""

    compared: dict[str, int]
    differing: dict[str, int]
    stray: int

    @property
    def total(self) -> int:
        return sum(self.compared.values())

    @property
    def mismatches(self) -> int:
        return sum(self.differing.values()) + self.stray


def compare(program: LoweredProgram, memory: np.ndarray, reference: dict[str, np.ndarray],
            written: np.ndarray | None = None) -> Comparison:
    """``memory`` after a run against the codes of ``reference``, byte by byte.

    No byte outside the results may have been written: ``written`` is non-zero for each byte that
    was, or is left out to take those that differ from the program's image.
    """
    compared, differing = {}, {}
    stray = memory != program.memory if written is None else written != 0
    for name, tensor in program.results.items():
        found = np.ascontiguousarray(read_codes(memory, tensor, program.base)).view(np.uint8)
        wanted = np.ascontiguousarray(reference[name]).view(np.uint8)
        compared[name] = found.size
        differing[name] = int(np.count_nonzero(found != wanted))
        tensor.window(stray, program.base)[:] = False
    return Comparison(compared, differing, int(np.count_nonzero(stray)))
