"""What moves through the vector unit: a beat is up to L words of one row."""

from amaranth.hdl import Const, Module, ShapeLike, Signal
from amaranth.lib import data

from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["delayed", "lane_words", "operand_words", "result_layout", "side_layout", "vector_beat"]


def lane_words(config: AcceleratorConfig, count: int | None = None) -> data.ArrayLayout:
    """``count`` lane words, L by default."""
    return data.ArrayLayout(config.word.bits, config.lanes if count is None else count)


def operand_words(config: AcceleratorConfig, count: int | None = None) -> data.ArrayLayout:
    """``count`` operands as lanes take them, L by default: lane words, of fixed lanes BF16."""
    return data.ArrayLayout(config.lane.bits, config.lanes if count is None else count)


def side_layout(config: AcceleratorConfig, tag: ShapeLike) -> data.StructLayout:
    """Side band of a beat.

    ``keep``: words that exist, the low ones, at least one. ``row``: row of the block, which names
    its entry of R0 and R1. ``last``: last beat of its row. ``tag``: passed through unread.
    """
    return data.StructLayout({
        "keep": config.lanes, "row": log2_exact(config.row_depth), "last": 1, "tag": tag})


def vector_beat(config: AcceleratorConfig, tag: ShapeLike) -> data.StructLayout:
    """Input of the vector unit: ``data``, operand ``y`` (L words each), the side band."""
    return data.StructLayout({
        "data": lane_words(config), "y": operand_words(config), **side_layout(config, tag).members})


def result_layout(config: AcceleratorConfig, tag: ShapeLike) -> data.StructLayout:
    """Output of the vector unit: ``data``, L lane words, and the side band."""
    return data.StructLayout({"data": lane_words(config), **side_layout(config, tag).members})


def delayed(m: Module, reducer, levels: int):
    """``valid``, ``row``, ``last`` of a ``reducer`` with its tree's result, and whether any is in
    flight."""
    valid, row, last = reducer.valid, reducer.row, reducer.last
    busy = Const(0, 1)
    for level in range(1, levels + 1):
        next_valid = Signal(name=f"valid_{level}")
        next_row = Signal.like(reducer.row, name=f"row_{level}", reset_less=True)
        next_last = Signal(name=f"last_{level}", reset_less=True)
        m.d.sync += [next_valid.eq(valid), next_row.eq(row), next_last.eq(last)]
        valid, row, last = next_valid, next_row, next_last
        busy = busy | valid
    return valid, row, last, busy
