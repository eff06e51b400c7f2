"""What a graph is traced on: sequences with padding, and what each input is."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.onnx.expressions import Expression, function_of
from compiler.checkpoints.onnx.format import Node
from compiler.checkpoints.onnx.symbols import Atom, Axes, Probe, Symbol

__all__ = ["Context"]

_FIRST_ID = 2  # ids of 0 and 1 pad, in one model or another


@dataclass
class Context:
    """``sequences`` of ``positions``, the last one's end padding. ``version``: of the operators.
    ``most``: items that known values may have. ``samples``: of the bases of probes."""

    path: Path
    version: int
    sequences: int
    positions: int
    most: int
    samples: dict[Expression, np.ndarray] = field(default_factory=dict)

    @property
    def mask(self) -> np.ndarray:
        """1 where a position is none that pads."""
        found = np.ones((self.sequences, self.positions), np.int64)
        found[-1, -(self.positions // 2):] = 0
        return found

    @property
    def kinds(self) -> np.ndarray:
        """Of segments: a row that is no other input's."""
        row = (np.arange(self.positions) % 3 == 1).astype(np.int64)
        return np.tile(row, (self.sequences, 1))

    def ids(self, words: int) -> np.ndarray:
        """Of a table of so many words; neither equal to places nor ordered."""
        count = self.sequences * self.positions
        found = _FIRST_ID + (np.arange(count) * 7 + 3) % max(words - _FIRST_ID, 1)
        return np.minimum(found, words - 1).reshape(self.sequences, self.positions)

    @property
    def places(self) -> np.ndarray:
        return np.tile(np.arange(self.positions), (self.sequences, 1))

    def refuse(self, node: Node, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {node.label} must {what}")

    def axes(self, shape: tuple[int, ...]) -> Axes | None:
        """Of what has a row for each position: sequences × positions × features."""
        if len(shape) not in (2, 3) or shape[-2] != self.positions or (
                len(shape) == 3 and shape[0] not in (1, self.sequences)):
            return None
        lead = (((Atom("b", shape[0]),) if shape[0] > 1 else ()),) if len(shape) == 3 else ()
        return (*lead, (Atom("s", shape[-2]),), (Atom("f", shape[-1]),))

    def probed(self, symbol: Symbol, label: str) -> Probe:
        """``symbol`` by a sample of what it is a function of."""
        base, function = function_of(symbol.expression)
        if base not in self.samples:
            rng = np.random.default_rng(len(self.samples))
            self.samples[base] = rng.normal(0, 1, symbol.shape)
        sample = self.samples[base]
        if sample.shape != symbol.shape:
            raise CheckpointError(f"{self.path}: what follows {label} must read its rows as they "
                                  "are")
        return Probe(symbol.of(base), function(sample), label)
