"""Why a point of the code is not reached, where that is known."""

import re

__all__ = ["reason"]

_REASONS: tuple[tuple[str, str], ...] = ()


def reason(text: str) -> str:
    """Why the point that ``text`` (``sim.coverage.code.describe``) tells of cannot run, or ""."""
    for pattern, why in _REASONS:
        if re.search(pattern, text):
            return f"({why})"
    return ""
