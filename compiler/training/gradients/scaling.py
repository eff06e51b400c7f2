"""Scales of gradient tensors: powers of two, from the largest magnitudes of the last steps."""

import math
from collections import deque

from hdl.spec.formats import Format, PositEncoding

__all__ = ["HISTORY", "Scaling", "power", "target_log2"]

HISTORY = 10
_NOTHING = 2.0 ** -64  # magnitudes below tell nothing


def target_log2(fmt: Format) -> int:
    """log2 of what a scale brings the largest magnitude below: 64 for posits of es >= 1, as in the
    paper, 2^4 for es 0, 2^15 for E5M2, 2^8 for E4M3 alone.

    A batch scaled by its own largest magnitude has the least error at 2^4, where posits are
    precise, by the error of all items together; models learn more at 64.
    """
    encoding = fmt.encodings[-1]
    if isinstance(encoding, PositEncoding):
        return 6 if encoding.es else 4
    return encoding.max_exponent


def power(magnitude: float) -> float:
    """2^(−n − 1) for a magnitude in [2^n, 2^(n + 1)); 1 for one that tells nothing, 0 for
    infinity, NaN for NaN."""
    if math.isnan(magnitude):
        return math.nan
    if math.isinf(magnitude):
        return 0.0
    if magnitude < _NOTHING:
        return 1.0
    return math.ldexp(1.0, -math.frexp(magnitude)[1])


class Scaling:
    """The scale of each gradient tensor, by site.

    Delayed: 2^k · ``power`` of the largest magnitude of the last ``HISTORY`` steps, before the
    present one is among them; 2^k · 1 as long as there is none. ``target``: k, that of
    ``target_log2`` unless given. Not ``on``: always 1.
    """

    def __init__(self, fmt: Format, on: bool = True, target: int | None = None) -> None:
        self.on = on
        self._target = 2.0 ** (target_log2(fmt) if target is None else target)
        self._histories: dict[str, deque[float]] = {}
        self._now: dict[str, float] = {}

    def scale(self, site: str) -> float:
        if not self.on:
            return 1.0
        history = self._histories.get(site)
        return self._target * power(max(history, default=0.0) if history else 0.0)

    def note(self, site: str, magnitude: float) -> None:
        """A tensor of ``site`` in this step had this largest magnitude, before it was scaled."""
        self._now[site] = max(self._now.get(site, 0.0), magnitude)

    def end_step(self) -> None:
        for site, magnitude in self._now.items():
            self._histories.setdefault(site, deque(maxlen=HISTORY)).append(magnitude)
        self._now.clear()

    def histories(self) -> dict[str, list[float]]:
        """The magnitudes of the last steps by site, the oldest first."""
        return {site: list(history) for site, history in self._histories.items()}

    def resume(self, histories: dict[str, list[float]]) -> None:
        """Take ``histories`` in place of one's own."""
        self._histories = {site: deque(values, maxlen=HISTORY)
                           for site, values in histories.items()}
        self._now.clear()
