"""Beats of rows: what moves of a row of bytes in one cycle."""

from amaranth.lib import data

from hdl.ports.parametric import require_count

__all__ = ["beat_layout"]


def beat_layout(nbytes: int) -> data.StructLayout:
    """Up to ``nbytes`` bytes of a row.

    ``data``: the first byte lowest, unused ones zero. ``size``: bytes used, 1 to ``nbytes``, less
    than ``nbytes`` only where the row ends. ``last``: the beat ends its row.
    """
    require_count("nbytes", nbytes)
    return data.StructLayout({"data": 8 * nbytes, "size": range(nbytes + 1), "last": 1})
