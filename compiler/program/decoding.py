"""What a host has of decoding: programs of one memory, and what it writes before each start."""

from dataclasses import dataclass

from compiler.program.image import ProgramImage
from compiler.program.template import Fields, Template
from compiler.program.tensor import Tensor

__all__ = ["Decoding", "Encoding", "Pass"]


@dataclass(frozen=True)
class Pass:
    """A program that takes ``length`` positions through all layers after those of the cache.

    Variables of its ``template``: ``past``, how many these are; ``last``, which of the ``length``
    is read after the last layer. Where ``sequences`` stand side by side, also ``sequence``, whose
    part of a prompt it is, and ``pad``, how many positions stand empty before that; or it takes a
    position of all ``sequences``, which have the same past, empty positions among it. ``ids``: what
    the host writes. ``logits``: a row a sequence.
    """

    length: int
    template: Template
    ids: Tensor
    logits: Tensor
    macs: int
    sequences: int = 1


@dataclass(frozen=True)
class Encoding:
    """A program that takes ``length`` tokens or patches through the encoder and leaves what the
    layers look across at. ``inputs``: what the host writes."""

    length: int
    address: int
    commands: tuple[Fields, ...]
    inputs: Tensor
    macs: int


@dataclass(frozen=True)
class Decoding:
    """Programs of one image; the cache has room for ``room`` positions. ``encoding``: of a model
    with an encoder, before every sequence. ``masks``: what the host writes of ``sequences`` side by
    side, a row each: 0, and the most negative BF16 where a position is empty."""

    image: ProgramImage
    passes: tuple[Pass, ...]
    room: int
    encoding: Encoding | None = None
    sequences: int = 1
    masks: Tensor | None = None

    def choose(self, length: int, past: int, sequences: int = 1) -> Pass:
        """The program for ``length`` positions of ``sequences`` after ``past`` others;
        ``ValueError``."""
        for own in self.passes:
            if (own.length, own.sequences) == (length, sequences) and (
                    past in own.template.variables["past"]):
                return own
        raise ValueError(f"no program of this image takes {length} positions after {past}")
