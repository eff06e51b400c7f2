"""What each format can say at all: its range, and how many decimal digits it keeps where."""

from collections.abc import Iterator
from math import log10

import numpy as np

from hdl.spec.formats import BF16_ENCODING, Encoding, PositEncoding, format_named
from sim.campaigns.accuracy.cells import FORMATS
from sim.model.codec import decode, posit_value

__all__ = ["digits", "range_lines", "ranges"]

_SHOWN = (2.0 ** -10, 2.0 ** -4, 1.0, 2.0 ** 4, 2.0 ** 10)


def _boundary(encoding: Encoding, code: int, below: float, above: float) -> float:
    """Where rounding passes from the value of ``code`` to the next: of posits a posit of one bit
    more, else halfway."""
    if isinstance(encoding, PositEncoding):
        found = posit_value(encoding.bits + 1, encoding.es, 2 * code + 1)
        assert found is not None, "a positive code"
        return float(found)
    return (below + above) / 2


def digits(encoding: Encoding) -> list[tuple[float, float]]:
    """(x, decimal digits) between each two neighbours: what is rounded there keeps so many digits
    at least, −log10 of the largest abs(log10(rounded / x)) (Gustafson, "Posit Arithmetic", 2017).
    """
    values = decode(encoding, np.arange(1 << encoding.bits - 1))
    found = []
    for code in range(1, len(values) - 1):
        below, above = float(values[code]), float(values[code + 1])
        if not 0 < below < above < np.inf:
            continue
        middle = _boundary(encoding, code, below, above)
        lost = max(log10(middle / below), log10(above / middle))
        found.append(((below * above) ** 0.5, -log10(lost)))
    return found


def _encodings() -> dict[str, Encoding]:
    return {name: format_named(name).encodings[0] for name in (*FORMATS[1:], "int8")} | {
        "bf16": BF16_ENCODING}


def ranges() -> dict[str, list[tuple[float, float]]]:
    """``digits`` of each format from 10⁻⁸ to 10⁸; of those of more than 8 bits every 32nd."""
    return {name: [(x, own) for x, own in digits(encoding)[::1 if encoding.bits == 8 else 32]
                   if 1e-8 <= x <= 1e8] for name, encoding in _encodings().items()}


def range_lines() -> Iterator[str]:
    """A table as lines of Markdown."""
    yield ("| | smallest | largest | decades | digits from "
           + " | ".join(f"2^{int(np.log2(x))}" for x in _SHOWN) + " |")
    yield "|---" * (4 + len(_SHOWN)) + "|"
    for name, encoding in _encodings().items():
        values = decode(encoding, np.arange(1 << encoding.bits - 1))
        values = values[(values > 0) & np.isfinite(values)]
        kept = digits(encoding)
        near = [_near(kept, x) for x in _SHOWN]
        yield (f"| {name} | {values.min():.4g} | {values.max():.4g} | "
               f"{log10(values.max() / values.min()):.1f} | {' | '.join(near)} |")


def _near(kept: list[tuple[float, float]], x: float) -> str:
    """The least within a factor of 2 upwards."""
    own = [digit for at, digit in kept if x <= at < 2 * x]
    return f"{min(own):.2f}" if own else "–"
