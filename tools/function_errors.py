"""Errors of the vector unit's functions over all BF16 inputs: ``python tools/function_errors.py``.

Each function of the reference model, which the hardware equals to the bit, against the real one in
float64, over every finite normal BF16 number. An ulp is that of BF16 at the real result. Lines: the
largest and the mean error of positive inputs; of negative ones how many lie beyond one ulp, and
the largest of their errors as a multiple of 2^-9; of slopes also the largest error of all.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from sim.model import lanes
from sim.model.rounding import from_words

SMALLEST = 2.0 ** -126


def gelu_slope(x: float) -> float:
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return math.erfc(-x / math.sqrt(2)) / 2 + x * density


def silu_slope(x: float) -> float:
    return (1 + x / (1 + math.exp(x))) / (1 + math.exp(-x))


SLOPES: dict[Function, Callable[[float], float]] = {
    Function.GELU_SLOPE: gelu_slope,
    Function.SILU_SLOPE: lambda x: silu_slope(x) if abs(x) < 700 else float(x > 0),
}
REAL: dict[Function, Callable[[float], float]] = {
    Function.GELU: lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    Function.GELU_SIGMOID: lambda x: x / (1 + math.exp(-1.702 * x)) if x > -400 else 0.0,
    Function.SILU: lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    Function.SIGMOID: lambda x: (1 + math.tanh(x / 2)) / 2 if x > -30 else math.exp(x),
    Function.TANH: math.tanh,
    Function.INVERSE_SQRT: lambda x: 1 / math.sqrt(x),
    **SLOPES,
}


def ulps(config: AcceleratorConfig, function: Function, x: np.ndarray
         ) -> tuple[np.ndarray, np.ndarray]:
    """Absolute errors at ``x``, and the same in BF16 ulp; 0 ulp where the result is subnormal."""
    exact = np.array([REAL[function](value) for value in x.tolist()])
    error = np.abs(lanes.apply(config, function, x) - exact)
    normal = np.abs(exact) >= SMALLEST
    ulp = 2.0 ** (np.frexp(np.where(normal, exact, 1))[1] - 8)
    return error, np.where(normal, error, 0) / ulp


def line(config: AcceleratorConfig, function: Function) -> str:
    """The errors of one function, as the module says."""
    lane = config.lane
    x = from_words(lane, np.arange(1 << 16, dtype=np.uint32) << lane.bits - 16)
    x = x[np.isfinite(x) & (np.abs(x) >= SMALLEST)]
    up, down = x[x > 0], x[x < 0]
    above, positive = ulps(config, function, up)
    text = (f"{function.name:12} {lane.name:8} {up.size} x > 0: max {positive.max():.2f}, "
            f"mean {positive.mean():.3f} ulp")
    if function is Function.INVERSE_SQRT:
        return text
    error, negative = ulps(config, function, down)
    beyond = negative > 1
    text += (f"; {down.size} x < 0: {beyond.sum()} beyond 1 ulp, "
             f"at most {512 * error[beyond].max(initial=0):.2f} · 2^-9")
    if function not in SLOPES:
        return text
    return f"{text}; every x: error at most {max(above.max(), error.max()):.5f}"


def main() -> int:
    for fmt in ("posit8", "bf16"):  # lanes of BF16, lanes of FP32
        for function in REAL:
            print(line(AcceleratorConfig(fmt, dim=4, functions="training"), function))
    return 0


if __name__ == "__main__":
    sys.exit(main())
