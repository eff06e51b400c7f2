"""The plan of a command, which every unit of the accelerator follows."""

from amaranth.lib import data

from hdl.spec.commands import COMMAND, INSTRUCTIONS, AtMost, CommandField, Unit, available
from hdl.spec.config import COUNT_BITS, AcceleratorConfig, log2_exact

__all__ = ["COUNT_BITS", "constants", "copied", "count_tiles", "plan_layout"]


def constants(config: AcceleratorConfig) -> tuple[str, ...]:
    """Fields of a command that the vector unit takes as they are."""
    return tuple(field.name for field in COMMAND.values()
                 if Unit.VECTOR in field.units and available(field.needs, config))


def _bits(field: CommandField) -> int:
    """Bits that hold every value of the field that is not refused."""
    most = [limit.most.bit_length() for limit in field.limits
            if isinstance(limit, AtMost) and isinstance(limit.most, int)]
    return min(field.bits, *most) if most else field.bits


def _rank(field: CommandField) -> int:
    """Flags first, then counts, then the rest; constants of the vector unit last."""
    if field.bits == 1:
        return 0
    return 1 if _bits(field) < field.bits else 2 if field.number is None else 3


def copied(config: AcceleratorConfig) -> dict[str, int]:
    """Fields of a command that are part of its plan, and their bits there.

    Flags that a build ignores stay: they are wires without a load. Those that it refuses go.
    """
    taken = [field for field in COMMAND.values()
             if field.units and (field.number is None or field.name in constants(config))
             and (not field.strict or available(field.needs, config))]
    return {field.name: _bits(field) for field in sorted(taken, key=_rank)}


def plan_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A command's own fields, and what the planner adds to them.

    ``gemm``: the block is filled by the array, else from memory.
    ``block_log2``: log2 of the rows in a block. ``chunk``: columns of a chunk. ``k_span``: K
    elements held at once in an input bank. ``resident``: K is one span, so that a block of A
    is loaded once. ``streamed``: the row does not fit on chip, so that every instruction of the
    list makes its own pass over the input; then ``passes`` is their number, else 1. ``single``:
    the list has one instruction. ``rowwise``: see ``Planner``. ``chunk_log2``: log2 of ``chunk``.
    ``ahead``: of a GEMM, the array is not waiting for what is loaded (``Sequencer``).
    """
    return data.StructLayout(copied(config) | {
        "gemm": 1, "block_log2": range(log2_exact(config.row_depth) + 1),
        "chunk": COUNT_BITS, "k_span": COUNT_BITS, "resident": 1, "streamed": 1,
        "passes": range(INSTRUCTIONS + 1), "single": 1, "rowwise": 1, "chunk_log2": 5,
        "ahead": 1})


def count_tiles(config: AcceleratorConfig, elements):
    """⌈elements / D⌉ as an expression."""
    return (elements + (config.dim - 1)) >> log2_exact(config.dim)
