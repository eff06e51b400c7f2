"""What the units of a build are given while an attention head runs: ``Workload``.

Operands, partial sums, scores, exponentials, sums of rows and probabilities of a real layer's head,
in the order in which a unit meets them: a processing element one weight after the other, each over
all positions; a lane the three passes of a softmax. Each is told what must come out (the models of
``sim.model``), so that a run of gates is a proof too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compiler.checkpoints.heads import AttentionHeads
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import lane_cycles
from sim.model import codec, lanes
from sim.model.accumulate import accumulator_type, fused_multiply_add
from sim.model.rounding import to_words
from sim.verify.arithmetic import Arithmetic

__all__ = ["UNITS", "Stimulus", "Workload"]

UNITS = ("decoder", "mac", "pe", "exp", "reciprocal", "lane", "encoder")
_TILES = 4  # of K
_ROWS = 4  # of the array
_MOST = 2048  # words

Array = np.ndarray
Operands = Callable[[Array], Mapping[str, Array]]


@dataclass(frozen=True)
class Stimulus:
    """``inputs`` of each cycle. ``output``: of which port ``expected`` are the words, in the cycles
    ``at``."""

    inputs: Mapping[str, Array | int]
    output: str
    expected: Array
    at: Array


class Workload:
    """A head of ``layer`` in the arithmetic of a build. ``decoded``: fields of an operand by the
    name of the decoder's port, of an array of codes.

    ``ValueError`` for an accumulator that rounds no sums.
    """

    def __init__(self, config: AcceleratorConfig, layer: AttentionHeads, head: int,
                 decoded: Operands) -> None:
        if config.exact_columns or config.acc == "int32":
            raise ValueError(f"acc must be one of bf16, fp32 for a run of a PE, not {config.acc!r}")
        self.config, self._decoded = config, decoded
        self._layer, self._head = layer, head
        self._math = Arithmetic(config)

    def stimulus(self, unit: str) -> Stimulus:
        return getattr(self, f"_{unit}")()

    @cached_property
    def _x(self) -> Array:
        return self._math.stored(self._layer.x)

    @cached_property
    def _query(self) -> Array:
        """Weights, stored: K × N."""
        return self._math.stored(self._layer.projections([self._head])["Q"].weight).T

    @cached_property
    def _scores(self) -> Array:
        parts = {name: self._math.stored(self._math.linear(self._x, one))
                 for name, one in self._layer.projections([self._head]).items()}
        return self._math.product(parts["Q"], parts["K"].T)

    @cached_property
    def _factor(self) -> float:
        return float(self._math.wide(self._layer.scale))

    @cached_property
    def _scaled(self) -> Array:
        return self._math.multiply(self._scores, np.full((1, 1), self._factor))

    @cached_property
    def _top(self) -> Array:
        return lanes.row_max(self.config.lane, self._scaled)

    @cached_property
    def _exponentials(self) -> Array:
        return self._math.exponentials(self._scaled)

    @cached_property
    def _sums(self) -> Array:
        return lanes.row_sum(self.config, self._exponentials)

    @cached_property
    def _inverse(self) -> Array:
        return lanes.reciprocal(self.config, self._sums)

    def _words(self, values: Array) -> Array:
        return np.asarray(to_words(self.config.lane, np.asarray(values, np.float64)), np.int64)

    def _hybrid(self) -> dict[str, int]:
        return {"e5m2": 0} if len(self.config.format.encodings) > 1 else {}

    def _codes(self, values: Array) -> Array:
        return np.asarray(codec.encode(self._math.encoding, values), np.int64)

    def _decoder(self) -> Stimulus:
        codes = self._codes(self._x.T.ravel()[:_MOST])
        return _combinational({"code": codes, **self._hybrid()}, "sign",
                              np.signbit(codec.decode(self._math.encoding, codes)))

    def _encoder(self) -> Stimulus:
        values = self._math.multiply(self._exponentials, self._inverse[:, None]).ravel()[:_MOST]
        return _combinational({"value": self._words(values), **self._hybrid()}, "result",
                              self._codes(values))

    def _exp(self) -> Stimulus:
        top = np.broadcast_to(self._top[:, None], self._scaled.shape)
        values = lanes.subtract(self.config.lane, self._scaled, top).ravel()[:_MOST]
        return _combinational({"value": self._words(values)}, "result",
                              self._words(lanes.exp(self.config, values)))

    def _reciprocal(self) -> Stimulus:
        return _combinational({"value": self._words(self._sums)}, "result",
                              self._words(self._inverse))

    def _tiles(self) -> list[tuple[int, Array, Array, Array, Array]]:
        """Rows of the array and K-tiles, as one PE after the other meets them: its row, operands,
        the weights of its column, partial sums that enter and that leave."""
        dim, found = self.config.dim, []
        acc = accumulator_type(self.config)
        for tile in range(min(_TILES, self._x.shape[1] // dim)):
            column = tile % self._query.shape[1]
            weights = self._query[tile * dim:(tile + 1) * dim, column]
            psum = np.zeros(len(self._x))
            for row in range(dim):
                x = self._x[:, tile * dim + row]
                after = fused_multiply_add(acc, psum, x, np.full_like(x, weights[row]))
                if row % (dim // _ROWS) == dim // _ROWS - 1:
                    found.append((row, x, weights, psum, after))
                psum = after
        return found

    def _psums(self, values: Array) -> Array:
        return np.asarray(to_words(accumulator_type(self.config), values), np.int64)

    def _mac(self) -> Stimulus:
        tiles = self._tiles()
        count = len(self._x)
        x = self._decoded(self._codes(np.concatenate([tile[1] for tile in tiles])))
        w = self._decoded(self._codes(np.repeat([tile[2][tile[0]] for tile in tiles], count)))
        late = self.config.pe_latency - 1
        return Stimulus(
            {**{f"a_{name}": _held(column, late + 1) for name, column in x.items()},
             **{f"b_{name}": _held(column, late + 1) for name, column in w.items()},
             "psum_i": _late(self._psums(np.concatenate([tile[3] for tile in tiles])), late, 1),
             "rst": 0}, "psum_o", self._psums(np.concatenate([tile[4] for tile in tiles])),
            np.arange(count * len(tiles)) + late + 1)

    def _pe(self) -> Stimulus:
        """Before its operands each tile's weights are shifted in from above."""
        tiles, dim, count = self._tiles(), self.config.dim, len(self._x)
        late = self.config.pe_latency - 1
        span = dim + 1 + count  # shift, swap, use
        x = np.zeros(span * len(tiles), np.int64)
        above, down, swap, psum = (np.zeros_like(x) for _ in range(4))
        at, expected = [], []
        for number, (row, operand, weights, before, after) in enumerate(tiles):
            first = number * span
            rows = (row + dim - 1 - np.arange(dim)) % dim  # the PE's own comes last
            above[first:first + dim] = self._packed(weights[rows])
            down[first:first + dim] = 1
            swap[first + dim] = 1
            start = first + dim + 1
            x[start:start + count] = self._packed(operand)
            psum[start:start + count] = self._psums(before)
            at.append(np.arange(start, start + count) + late + 1)
            expected.append(self._psums(after))
        inputs = {"x_i": x, "w_above": above, "down_i": down, "swap_i": swap}
        return Stimulus({**{name: _held(column, late + 1) for name, column in inputs.items()},
                         "psum_i": _late(psum, late, 1), "right_i": 0, "w_left": 0, "rst": 0},
                        "psum_o", np.concatenate(expected), np.concatenate(at))

    def _packed(self, values: Array) -> Array:
        """Words of ``OperandLayout``."""
        fmt, field = self.config.format, self._decoded(self._codes(values))
        hidden = fmt.significand_bits - 1
        word = field["significand"] & ((1 << hidden) - 1) | (1 - field["is_zero"]) << hidden
        word = word | field["exponent"] << hidden + 1
        return (word | field["sign"] << hidden + 1 + fmt.exponent_bits
                | field["is_nar"] << hidden + 2 + fmt.exponent_bits)

    def _lane(self) -> Stimulus:
        """Lane 1 in the passes × factor; − maximum, exp; × inverse of the sum."""
        own = slice(1, None, self.config.lanes)
        rows, parts = self._scores.shape[0], self._scores[:, own].shape[1]

        def by_row(values: Array) -> Array:
            return np.repeat(values, parts)

        passes = [
            (self._scores, {"multiply_on": 1, "multiply_word": np.full(rows, self._factor)},
             self._scaled),
            (self._scaled, {"add_on": 1, "subtract": 1, "add_word": self._top,
                            "function_": int(Function.EXP)}, self._exponentials),
            (self._exponentials, {"scale_on": 1, "scale_word": self._inverse},
             self._math.multiply(self._exponentials, self._inverse[:, None]))]
        stage, latency = self.config.lane_latency, lane_cycles(self.config)
        late = {"multiply_word": 1, "add_word": 1 + stage, "scale_word": 1 + 3 * stage}
        span = rows * parts + latency
        columns: dict[str, list[Array]] = {}
        for data, said, _ in passes:
            columns.setdefault("data", []).append(_held(self._words(data[:, own].ravel()), latency))
            for name in ("multiply_on", "add_on", "subtract", "function_", "scale_on"):
                columns.setdefault(name, []).append(np.full(span, said.get(name, 0), np.int64))
            for name, delay in late.items():
                words = self._words(by_row(np.asarray(said.get(name, np.zeros(rows)))))
                columns.setdefault(name, []).append(_late(words, delay, latency - delay))
        starts = np.arange(len(passes))[:, None] * span + latency + np.arange(rows * parts)
        return Stimulus(
            {**{name: np.concatenate(own) for name, own in columns.items()}, "enable": 1, "y": 0,
             "multiply_y": 0, "add_y": 0, "scale_y": 0, "relu": 0, "masked": 0, "rst": 0},
            "o", np.concatenate([self._words(after[:, own].ravel()) for _, _, after in passes]),
            starts.ravel())


def _combinational(inputs: Mapping[str, Array | int], output: str, expected: Array) -> Stimulus:
    return Stimulus(inputs, output, np.asarray(expected, np.int64), np.arange(len(expected)))


def _held(values: Array, cycles: int) -> Array:
    """``cycles`` more of the last."""
    return np.concatenate([values, np.repeat(values[-1:], cycles)])


def _late(values: Array, before: int, after: int) -> Array:
    """``before`` cycles later; the first and the last stand for what is not there."""
    return np.concatenate([np.repeat(values[:1], before), values, np.repeat(values[-1:], after)])
