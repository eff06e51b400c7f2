"""What passes between array, loader, accumulation banks and drain."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from hdl.ports.parametric import Parametric
from hdl.spec.config import AcceleratorConfig

__all__ = ["BankStates", "FillPort", "Release", "Totals", "arrival_layout", "maximum_layout",
           "progress_layout", "row_token", "tile_mark"]


def tile_mark() -> data.StructLayout:
    """What a word from the array completes.

    ``final``: the word itself, it is of the last K-tile. ``closing``: it is of the tile that
    completes its chunk. ``ends``: it is its tile's last row.
    """
    return data.StructLayout({"final": 1, "closing": 1, "ends": 1})


def row_token(config: AcceleratorConfig) -> data.StructLayout:
    """What travels with an operand row: where its result goes.

    ``first``: of its K-tiles, the result is stored, not added. ``mark``: see ``tile_mark``; column
    tiles of a bank become final in ascending order, each row by row.
    """
    return data.StructLayout({
        "valid": 1, "bank": 1, "address": range(config.acc_depth), "first": 1,
        "mark": tile_mark()})


def maximum_layout(config: AcceleratorConfig) -> data.StructLayout:
    """``edge``: columns of C's last column tile, 0 for D. ``scale``: a BF16 word."""
    return data.StructLayout({"edge": range(config.dim), "scale": 16})


def arrival_layout() -> data.StructLayout:
    """``valid``: the next word of ``bank``, in the order of its filling, may be read from the next
    cycle on. ``tile_ends``, ``complete``: it ends its column tile, the bank."""
    return data.StructLayout({"valid": 1, "bank": 1, "tile_ends": 1, "complete": 1})


def progress_layout(config: AcceleratorConfig) -> data.StructLayout:
    """How far a bank is filled: ``tiles`` column tiles complete and ``words`` words of the next.

    Where the array fills, the words of a tile are its rows. A bank filled from memory counts as one
    tile of all its words in the order of their addresses.
    """
    count = range(config.acc_depth + 1)
    return data.StructLayout({"tiles": count, "words": count})


class FillPort(Parametric):
    """Claiming the accumulation bank that comes next, seen from who fills it.

    Members
    -------
    claim: Out(1), pulse, ``bank`` is taken; only while ``free``.
    free: In(1). bank: In(1).
    """

    def __init__(self) -> None:
        super().__init__({}, {"claim": Out(1), "free": In(1), "bank": In(1)})


class Release(Parametric):
    """Releasing one of two banks or halves, seen from who has read it.

    Members
    -------
    valid: Out(1), pulse. bank: Out(1), with it.
    """

    def __init__(self) -> None:
        super().__init__({}, {"valid": Out(1), "bank": Out(1)})


class BankStates(Parametric):
    """The two accumulation banks, seen from who knows (``AccumulationBanks``).

    Members
    -------
    ready: Out(2), one bit per bank, it is complete.
    progress: Out, ``progress_layout`` of each.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"config": config}, {
            "ready": Out(2), "progress": Out(data.ArrayLayout(progress_layout(config), 2))})


class Totals(Parametric):
    """Words of D accumulators as they are added up, seen from ``AccumulationBuffer``.

    Members
    -------
    valid: Out(1), the word is in ``bank`` from the next cycle on. bank: Out(1).
    mark: Out(``tile_mark``). word: Out.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"config": config}, {
            "valid": Out(1), "bank": Out(1), "mark": Out(tile_mark()),
            "word": Out(config.dim * config.acc_bits)})
