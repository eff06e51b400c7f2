"""Why a point of the code is not reached, where that is known."""

import re

__all__ = ["reason"]

_REASONS: tuple[tuple[str, str], ...] = (
    (r"drain__transfers: .* y\[\d+\] \?", "Y is never stored transposed; C shares the hardware"),
    (r"maximum\S*: key_0:", "column 0 lies inside every tile"),
    (r"planner: [kn]_tiles_log2:", "sizes beyond what a simulation's memory holds; "
                                   "tests/hdl/control/test_plan.py plans them"),
    (r"1'h1\)?$", "the condition is a constant at this width of the bus"),
    (r"(packer|aligner_\d+): .*held\[\d+:120\]", "the last byte of a beat never comes from the "
                                               "beat before: no offset is above 15"),
)


def reason(text: str) -> str:
    """Why the point that ``text`` (``code.describe``) describes cannot run, or ""."""
    for pattern, why in _REASONS:
        if re.search(pattern, text):
            return f"({why})"
    return ""
