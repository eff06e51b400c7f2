"""Units on rows and matrices: reductions, softmax, whole products of matrices."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hdl.spec.commands import INSTRUCTION, Destination, Function, Operand, Post, Reduce
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig, accumulators
from hdl.spec.formats import BFLOAT16, FORMATS
from sim.model import accumulate
from sim.model.codec import decode, encode
from sim.model.rounding import Array, from_words, to_words
from sim.model.vector import RowState, execute
from tools.vectors.lanes import lane_config
from tools.vectors.operands import encoding_named, texts
from tools.vectors.store import Choice, File, Group, number

__all__ = ["REDUCTIONS", "SOFTMAX", "UNITS", "gemm_config"]

LANES = 4
LENGTHS = (1, 2, 3, 4, 5, 8, 13, 30)
SOFTMAX = (
    {"reduce": Reduce.MAX, "destination": Destination.BUFFER},
    {"add": Operand.R0, "subtract": 1, "function": Function.EXP, "reduce": Reduce.SUM,
     "reduce_to": 1, "post": Post.RECIPROCAL, "destination": Destination.BUFFER},
    {"scale": Operand.R1, "destination": Destination.MEMORY})
REDUCTIONS: dict[str, dict[str, Any]] = {
    "maximum": {"reduce": Reduce.MAX}, "sum": {"reduce": Reduce.SUM},
    "power": {"reduce": Reduce.MAX, "post": Post.POWER}}
SHAPES = ((1, 1, 1), (5, 1, 5), (4, 4, 4), (5, 5, 5), (5, 8, 5), (5, 11, 6), (6, 19, 5), (5, 30, 5))


def _bf16_rows(rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Rows of BF16 words by class and length."""
    def words(reals: np.ndarray | Sequence[float]) -> np.ndarray:
        return np.asarray(reals, np.float32).view(np.uint32) >> 16

    rows = [("random", words(rng.normal(0, 3, length))) for length in LENGTHS]
    rows += [("wide", words(rng.normal(0, 1, length) * 2.0 ** rng.integers(-20, 20, length)))
             for length in LENGTHS[2:]]
    rows += [("equal", words(np.full(length, 0.75))) for length in LENGTHS[3:6]]
    masked = words(rng.normal(0, 2, 9))
    hidden = np.where(rng.random(9) < 0.4, 0xFF7F, masked)  # the most negative finite: masked
    rows += [("masked", hidden), ("all masked", np.full(5, 0xFF7F)),
             ("zeros", np.array([0x8000, 0, 0x8000, 0x8000, 0])),
             ("NaR", np.where(np.arange(6) == 4, 0x7FC0, words(rng.normal(0, 1, 6)))),
             ("infinity", np.where(np.arange(7) == 2, 0x7F80, words(rng.normal(0, 1, 7)))),
             ("subnormal", np.array([1, 0x8003, 0x7F, 0x0080, 0x8001])),
             ("cancellation", words([1e4, 1.5, -1e4, 2.0 ** -9, -1.5]))]
    return rows


def rows(rng: np.random.Generator) -> File:
    choices = [{"lane": lane, "row": row} for lane in ("bf16", "fp32")
               for row in ("maximum", "sum")]
    choices += [{"lane": lane, "row": "softmax", "softmax": mode} for lane in ("bf16", "fp32")
                for mode in SOFTMAX_MODES]
    choices += [{"lane": lane, "row": "power"} for lane in ("bf16", "fp32")]
    groups = []
    for choice in choices:
        drawn = _bf16_rows(rng)
        given = [texts(words, 16) for _, words in drawn]
        groups.append(Group(choice, [list(case) for case in zip(
            [kind for kind, _ in drawn], given, computed(choice, given), strict=True)]))
    return File("rows", f"Rows in the vector unit, with {LANES} lanes.", {
        "x": "BF16 words of a row; FP32 lanes take them as FP32 values",
        "result": "words of the lane's type: the maximum, the sum, the power of two that the "
                  "maximum takes, or the softmax of the row"},
        groups)


def computed(choice: Choice, given: list[list[str]]) -> list[list[str]]:
    config = lane_config(choice)
    assert config.lanes == LANES
    found = []
    for row in given:
        x = from_words(BFLOAT16, np.array([number(text) for text in row]))[None]
        state = RowState((0.0, 0.0), {})
        if choice["row"] == "softmax":
            for fields in SOFTMAX:
                result = execute(config, dict.fromkeys(INSTRUCTION, 0) | fields, x, state)
                x = result if fields["destination"] == Destination.BUFFER else x
            values = result[0]
        else:
            fields = {**REDUCTIONS[str(choice["row"])], "destination": Destination.NONE}
            execute(config, dict.fromkeys(INSTRUCTION, 0) | fields, x, state)
            values = state.registers[0]
        found.append(texts(to_words(config.lane, values), config.lane.bits))
    return found


def gemm_config(choice: Choice) -> AcceleratorConfig:
    return AcceleratorConfig(choice["format"], acc=choice["accumulator"], dim=choice["dim"])


def gemm(rng: np.random.Generator) -> File:
    groups = []
    for fmt in FORMATS.values():
        for acc in accumulators(fmt):
            for dim in (4,) if gemm_config({"format": fmt.name, "accumulator": acc,
                                            "dim": 4}).exact_sums else (4, 8):
                choice = {"format": fmt.name, "a": fmt.encodings[0].name,
                          "b": fmt.encodings[-1].name, "accumulator": acc, "dim": dim}
                groups.append(Group(choice, _gemms(choice, rng)))
    return File("gemm", "A (M×K) times B (K×N) in an array of dim rows, rounded to the lane's "
                        "type and stored without a scale. With an exact accumulator dim changes "
                        "nothing.", {
        "a": "rows of codes", "b": "rows of codes",
        "value": "A·B, rows of words of the lane's type",
        "code": "the same as stored in the format, in the encoding of a"}, groups)


def _gemms(choice: Choice, rng: np.random.Generator) -> list[list]:
    cases = []
    for index, (m, k, n) in enumerate(SHAPES):
        kind = ("near 1", "any code", "NaR")[index % 3]
        operands = []
        for side, shape in (("a", (m, k)), ("b", (k, n))):
            encoding = encoding_named(choice[side])
            codes: Array
            if kind == "any code":
                codes = np.arange(1 << encoding.bits)
                codes = rng.choice(codes[np.isfinite(decode(encoding, codes))], shape)
            else:
                codes = encode(encoding, rng.normal(0, 1, shape)).astype(np.int64)
            if kind == "NaR" and side == "a":
                codes[0, 0] = encoding.nar_code
            operands.append([texts(row, encoding.bits) for row in codes])
        (results,) = multiplied(choice, [operands[0]], [operands[1]])
        cases.append([kind, *operands, *results])
    return cases


def multiplied(choice: Choice, left: list, right: list) -> list[tuple[list, list]]:
    config = gemm_config(choice)
    stored = encoding_named(choice["a"])
    found = []
    for a, b in zip(left, right, strict=True):
        x, y = (decode(encoding_named(choice[side]), np.array(
            [[number(code) for code in row] for row in codes])) for side, codes in (("a", a),
                                                                                  ("b", b)))
        values = accumulate.product(config, x, y)
        found.append(([texts(row, config.lane.bits) for row in to_words(config.lane, values)],
                      [texts(row, stored.bits) for row in encode(stored, values)]))
    return found


UNITS: dict[str, tuple[Callable, Callable]] = {
    "rows": (rows, lambda choice, given: computed(choice, *given)),
    "gemm": (gemm, lambda choice, given: multiplied(choice, *given))}
