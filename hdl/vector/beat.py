"""What moves through the vector unit: a beat is up to L words of one row."""

from amaranth.hdl import Value
from amaranth.lib import data

from hdl.spec.commands import INSTRUCTION
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["beat_layout", "instruction_field", "result_layout", "tag_layout", "words_layout"]


def words_layout(config: AcceleratorConfig, count: int | None = None) -> data.ArrayLayout:
    """``count`` lane words, L by default."""
    return data.ArrayLayout(config.lane.bits, config.lanes if count is None else count)


def tag_layout(config: AcceleratorConfig, address_bits: int) -> data.StructLayout:
    """Side band of a beat.

    ``keep``: words that exist, the low ones, at least one. ``row``: row of the block, which names
    its entry of R0 and R1. ``last``: last beat of its row. ``address``: passed through unread.
    """
    return data.StructLayout({
        "keep": config.lanes, "row": log2_exact(config.row_depth), "last": 1,
        "address": address_bits})


def beat_layout(config: AcceleratorConfig, address_bits: int) -> data.StructLayout:
    """Input of the vector unit: ``data``, operand ``y`` (L lane words each), the side band."""
    return data.StructLayout({
        "data": words_layout(config), "y": words_layout(config),
        **tag_layout(config, address_bits).members})


def result_layout(config: AcceleratorConfig, address_bits: int) -> data.StructLayout:
    """Output of the vector unit: ``data``, L lane words, and the side band."""
    return data.StructLayout({
        "data": words_layout(config), **tag_layout(config, address_bits).members})


def instruction_field(instruction: Value, name: str) -> Value:
    """One field of a 32-bit vector instruction."""
    field = INSTRUCTION[name]
    return instruction[field.low:field.low + field.bits]
