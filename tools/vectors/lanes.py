"""Units on words of a lane: exp, reciprocal, the other functions, the four operations."""

from collections.abc import Callable

import numpy as np

from hdl.spec.activations import ACTIVATIONS, INFERENCE
from hdl.spec.commands import Function
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32, LaneType
from sim.model import lanes
from sim.model.rounding import from_words, to_words
from tools.vectors.draw import lane_classes
from tools.vectors.operands import texts
from tools.vectors.store import Choice, File, Group, number

__all__ = ["UNITS", "lane_config"]

FORMAT = {BFLOAT16.name: "posit8", BINARY32.name: "bf16"}
WORD = "word of the lane's type"
OPERATIONS: dict[str, Callable] = {"add": lanes.add, "subtract": lanes.subtract,
                                   "multiply": lanes.multiply, "maximum": lanes.maximum}


def lane_config(choice: Choice) -> AcceleratorConfig:
    """A build with the lanes and the softmax of a group."""
    kind = {key: choice[key] for key in ("softmax", "exact_power_reciprocal") if key in choice}
    return AcceleratorConfig(FORMAT[choice["lane"]], dim=4, **kind)


def _words(choice: Choice, values: list[str]) -> np.ndarray:
    return from_words(lane_config(choice).lane, np.array([number(text) for text in values]))


def _texts(choice: Choice, values: np.ndarray) -> list[str]:
    lane = lane_config(choice).lane
    return texts(to_words(lane, values), lane.bits)


def _of_one(name: str, about: str, choices: list[Choice], rng: np.random.Generator,
            octaves: tuple[int, int]) -> File:
    groups = []
    for choice in choices:
        lane = lane_config(choice).lane
        labels, words = lane_classes(lane, rng, 100, 40, octaves)
        given = texts(words, lane.bits)
        groups.append(Group(choice, [list(case) for case in zip(
            labels, given, applied(choice, given), strict=True)]))
    return File(name, about, {"value": WORD, "result": WORD}, groups)


def applied(choice: Choice, values: list[str]) -> list[str]:
    function = Function[choice["function"].upper()]
    return _texts(choice, lanes.apply(lane_config(choice), function, _words(choice, values)))


def _choices(function: str, modes: tuple[str, ...]) -> list[Choice]:
    return [{"lane": lane, "function": function, "softmax": mode} for lane in FORMAT
            for mode in modes]


def exp(rng: np.random.Generator) -> File:
    return _of_one("exp", "e^x in each softmax mode; FP32 lanes round x to BF16 first.",
                   _choices("exp", SOFTMAX_MODES), rng, (-9, 8))


def reciprocal(rng: np.random.Generator) -> File:
    choices = _choices("reciprocal", SOFTMAX_MODES)
    exact = [choice | {"exact_power_reciprocal": True} for choice in choices
             if choice["softmax"] == "approx_shifted"]
    return _of_one("reciprocal", "1/x in each softmax mode; ±0 gives the largest finite value.",
                   choices + exact, rng, (-40, 40))


def functions(rng: np.random.Generator) -> File:
    slopes = [function for function in ACTIVATIONS if function not in INFERENCE]
    choices = [{"lane": lane, "function": function.name.lower()}
               for named in ([Function.INVERSE_SQRT, *INFERENCE], slopes)
               for lane in FORMAT for function in named]
    return _of_one("functions", "The functions beyond softmax's, the same in every softmax mode.",
                   choices, rng, (-8, 5))


def lane(rng: np.random.Generator) -> File:
    groups = []
    for name in FORMAT:
        for operation in OPERATIONS:
            choice = {"lane": name, "operation": operation}
            labels, a, b = _two(lane_config(choice).lane, rng)
            left, right = (texts(words, lane_config(choice).lane.bits) for words in (a, b))
            groups.append(Group(choice, [list(case) for case in zip(
                labels, left, right, combined(choice, left, right), strict=True)]))
    return File("lane", "Two operands of a lane: each result is rounded once.", {
        "a": WORD, "b": WORD, "result": WORD}, groups)


def _two(kind: LaneType, rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
    labels, a = lane_classes(kind, rng, 80, 30)
    order = rng.permutation(len(a))
    b = a[order]
    # Neighbours of −a, whose sums cancel; and a·2^-n, where a sum's last bits are halves.
    f, sign = kind.fraction_bits, 1 << kind.bits - 1
    near = rng.integers(kind.bias - 6, kind.bias + 6, 60) << f | rng.integers(0, 1 << f, 60)
    cancel = (near + rng.integers(-1, 2, 60)) ^ sign
    halves = (near[:30] >> f) - rng.integers(1, f + 3, 30) << f
    return (labels + ["cancellation"] * 60 + ["tie"] * 30, np.concatenate([a, near, near[:30]]),
            np.concatenate([b, cancel, halves]))


def combined(choice: Choice, left: list[str], right: list[str]) -> list[str]:
    kind = lane_config(choice).lane
    with np.errstate(invalid="ignore"):
        return _texts(choice, OPERATIONS[choice["operation"]](
            kind, _words(choice, left), _words(choice, right)))


UNITS: dict[str, tuple[Callable, Callable]] = {
    "exp": (exp, lambda choice, given: applied(choice, *given)),
    "reciprocal": (reciprocal, lambda choice, given: applied(choice, *given)),
    "functions": (functions, lambda choice, given: applied(choice, *given)),
    "lane": (lane, lambda choice, given: combined(choice, *given))}
