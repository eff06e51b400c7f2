"""What a transformer is run on: token ids, patches of images, or what a layer gets."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compiler.checkpoints.description import Patches, Tokens, Transformer

__all__ = ["Inputs", "Step"]


@dataclass(frozen=True)
class Inputs:
    """B sequences of S positions each.

    ``values``: ``ids`` B×S integers, ``patches`` B×S×items, or ``states`` B×S×d: what the first
    lowered layer gets, in place of an embedding. ``valid``: B×S, False where a position only pads
    its sequence; ``None``: there is no such position. ``segments``: B×S whole numbers, of which
    kind each position of ids is; ``None``: all are of the first. ``source``: what the model's
    encoder reads, of as many sequences, where it has one.
    """

    kind: Literal["ids", "patches", "states"]
    values: np.ndarray
    valid: np.ndarray | None = None
    segments: np.ndarray | None = None
    source: "Inputs | None" = None

    @property
    def sequences(self) -> int:
        return self.values.shape[0]

    @property
    def length(self) -> int:
        return self.values.shape[1]

    def check(self, model: Transformer) -> None:
        """``ValueError`` in one line where they do not suit ``model``."""
        wanted = 2 if self.kind == "ids" else 3
        if self.values.ndim != wanted or 0 in self.values.shape:
            raise ValueError(f"{self.kind} must have {wanted} dimensions, none of them 0, "
                             f"not shape {self.values.shape}")
        if self.valid is not None and (self.valid.shape != self.values.shape[:2]
                                       or not self.valid.any(axis=1).all()):
            raise ValueError(f"valid must be {self.values.shape[:2]} with a valid position in "
                             f"each sequence, not {self.valid.shape}")
        embedding = model.embedding
        if self.kind == "states":
            self._last(model.width)
            return
        if (self.kind == "ids") != isinstance(embedding, Tokens):
            raise ValueError(f"{model.name} takes "
                             f"{'ids' if isinstance(embedding, Tokens) else 'patches'}, "
                             f"not {self.kind}")
        if isinstance(embedding, Patches):
            self._last(embedding.projection.weight.shape[1])
        elif not 0 <= self.values.min() <= self.values.max() < len(embedding.table):
            raise ValueError(f"ids must be from 0 to {len(embedding.table) - 1}, not "
                             f"{self.values.min()} to {self.values.max()}")
        limit = model.positions
        rate = embedding.rate
        if self.length % rate:
            raise ValueError(f"a sequence must have a multiple of {rate} patches, "
                             f"not {self.length}")
        if limit is not None and self.length > rate * limit:
            raise ValueError(f"a sequence must have at most {rate * limit} positions, "
                             f"not {self.length}")
        self.check_segments(model)
        self._check_source(model)

    def _check_source(self, model: Transformer) -> None:
        if (self.source is None) != (model.encoder is None):
            wanted = "must be given" if model.encoder is not None else "must be left out"
            raise ValueError(f"source of {model.name} {wanted}: it has "
                             f"{'an' if model.encoder is not None else 'no'} encoder")
        if self.source is None or model.encoder is None:
            return
        self.source.check(model.encoder)
        if self.source.sequences != self.sequences:
            raise ValueError(f"source must have {self.sequences} sequences, "
                             f"not {self.source.sequences}")

    def check_segments(self, model: Transformer) -> None:
        """``ValueError`` in one line for kinds of positions that ``model`` does not know."""
        if self.segments is None:
            return
        kinds = getattr(model.embedding, "segments", None)
        if kinds is None:
            raise ValueError(f"{model.name} knows one kind of positions: segments must be left out")
        if self.segments.shape != self.values.shape[:2]:
            raise ValueError(f"segments must be {self.values.shape[:2]}, not {self.segments.shape}")
        if not 0 <= self.segments.min() <= self.segments.max() < len(kinds):
            raise ValueError(f"segments must be from 0 to {len(kinds) - 1}, not "
                             f"{self.segments.min()} to {self.segments.max()}")

    def _last(self, items: int) -> None:
        if self.values.shape[2] != items:
            raise ValueError(f"{self.kind} must have {items} items a position, "
                             f"not {self.values.shape[2]}")


@dataclass(frozen=True)
class Step:
    """The positions that one pass of all layers works on: ``past`` + 0 … ``past`` + ``length`` − 1
    of each of ``sequences``, rows in that order.

    ``label`` is the prefix of the names of this step's results. ``valid`` as in ``Inputs``.
    ``renewed``: a program runs again with other ``valid``, so that each sequence has a mask and
    weights of its own, whatever they are at first. ``room``: the positions that the cache has room
    for, where programs of other ``past`` share it and the tables of positions; ``None``: it ends
    with this sequence. ``last``: which of the ``length`` positions is read after the last layer
    where one is; ``None``: the last. ``every``: all positions are read after the last layer of a
    causal model. ``start``: rows of the cache before those of a sequence's first position;
    ``shift``: what rotary tables call that position. ``beside``: sequences one position each, of a
    cache of ``room`` rows for each, whose masks the host writes.
    """

    label: str
    sequences: int
    length: int
    past: int
    valid: np.ndarray | None
    renewed: bool = False
    room: int | None = None
    last: int | None = None
    every: bool = False
    start: int = 0
    shift: int = 0
    beside: bool = False

    @property
    def rows(self) -> int:
        return self.sequences * self.length

    def first_row(self, sequence: int) -> int:
        """Where in the cache the keys of ``sequence`` begin."""
        each = self.room if self.beside and self.room is not None else self.total
        return self.start + sequence * each

    @property
    def total(self) -> int:
        """Positions that exist when this step is done."""
        return self.past + self.length
