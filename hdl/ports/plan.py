"""The plan of a command, which every unit of the accelerator follows."""

from amaranth.lib import data

from hdl.spec.commands import COMMAND, INSTRUCTIONS
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["COPIED", "COUNT_BITS", "COUNTS", "FLAGS", "constants", "count_tiles", "plan_layout"]

COUNT_BITS = 24
FLAGS = ("a_transposed", "b_transposed", "c_transposed", "row_max", "row_result", "a_e5m2",
          "b_e5m2", "y0_e5m2", "y1_e5m2", "c_e5m2", "x_wide", "y0_wide", "y1_wide", "c_wide",
          "x_gather")
COUNTS = ("m", "k", "n")
COPIED = ("a_address", "b_address", "c_address", "y0_address", "y1_address",
           "a_stride", "b_stride", "c_stride", "y0_stride", "y1_stride", "instructions")


def constants(config: AcceleratorConfig) -> tuple[str, ...]:
    """Fields of a command that the vector unit takes as they are."""
    return ("imm0", "imm1", *(("inverse_n", "epsilon") if config.functions == "all" else ()))


def plan_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A command's own fields, and what the planner adds to them.

    ``gemm``: the block is filled by the array, else from memory.
    ``block_log2``: log2 of the rows in a block. ``chunk``: columns of a chunk. ``k_span``: K
    elements held at once in an input bank. ``resident``: K is one span, so that a block of A
    is loaded once. ``streamed``: the row does not fit on chip, so that every instruction of the
    list makes its own pass over the input; then ``passes`` is their number, else 1. ``single``:
    the list has one instruction. ``rowwise``: see ``Planner``. ``chunk_log2``: log2 of ``chunk``.
    """
    members = {name: 1 for name in FLAGS}
    members |= {name: COUNT_BITS for name in COUNTS}
    members |= {name: COMMAND[name].bits for name in COPIED}
    members |= {name: COMMAND[name].bits for name in constants(config)}
    members |= {"gemm": 1, "block_log2": range(log2_exact(config.row_depth) + 1),
                "chunk": COUNT_BITS, "k_span": COUNT_BITS, "resident": 1, "streamed": 1,
                "passes": range(INSTRUCTIONS + 1), "single": 1, "rowwise": 1, "chunk_log2": 5}
    return data.StructLayout(members)


def count_tiles(config: AcceleratorConfig, elements):
    """⌈elements / D⌉ as an expression."""
    return (elements + (config.dim - 1)) >> log2_exact(config.dim)
