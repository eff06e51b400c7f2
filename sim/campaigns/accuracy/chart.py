"""Lines over an axis as SVG: a series for each build."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

__all__ = ["Axis", "chart"]

_PLOT, _HEIGHT, _LEFT, _TOP, _BOTTOM = 540, 420, 70, 40, 50
_RIGHT = _LEFT + _PLOT
_EM = 12 * 0.6
"""Pixels that a letter of the legend takes, in most fonts without serifs."""
_COLOURS = ("#1f4e79", "#c46a2b", "#4e8f5a", "#8b5fa8", "#a8434f", "#5c7f8a", "#b59b2c")
_DASHES = ("", "7 3", "2 3")
"""Of the first series of each colour, the second, and so on."""


@dataclass(frozen=True)
class Axis:
    """``label``; ``names``: what stands at 0, 1, 2, … in place of numbers; ``log``: by decades."""

    label: str
    names: tuple[str, ...] = ()
    log: bool = False

    def place(self, value: float) -> float:
        return log10(value) if self.log else value

    def ticks(self, low: float, high: float) -> list[tuple[float, str]]:
        """Places of marks between two places, and what is written there."""
        if self.names:
            return [(float(place), name) for place, name in enumerate(self.names)]
        if self.log:
            factors = (1, 2, 5) if high - low < 3 else (1,)
            every = max(1, ceil((high - low) / 8))
            found = [(log10(factor) + decade, f"{factor * 10.0 ** decade:g}")
                     for decade in range(floor(low / every) * every, ceil(high) + 1, every)
                     for factor in factors]
        else:
            step = 10.0 ** floor(log10((high - low) / 4))
            step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 8)
            found = [(step * number, f"{step * number:g}")
                     for number in range(ceil(low / step), floor(high / step) + 1)]
        return [(place, text) for place, text in found if low - 1e-9 <= place <= high + 1e-9]


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 12) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}">{escape(text)}</text>')


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _series(number: int, places: Sequence[tuple[float, float]], marks: bool = False) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = (f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"'
            + (f' stroke-dasharray="{dash}"' if dash else "") + "/>")
    return "\n".join([line, *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
                              for x, y in places if marks)])


def chart(title: str, across: Axis, up: Axis, series: Mapping[str, Sequence[tuple[float, float]]],
          marks: bool = True) -> str:
    """``series``: points by name, in their order. ``marks``: a circle at each point."""
    points = [(across.place(x), up.place(y)) for own in series.values() for x, y in own]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (high - low) or 1.0
    low, high = (low - margin if up.log or low < 0 else 0.0), high + margin

    def x_of(place: float) -> float:
        return _LEFT + _PLOT * (place - left) / ((right - left) or 1)

    def y_of(place: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (place - low) / (high - low)

    parts = [_text(_LEFT, 24, title, "start", 14)]
    for place, text in up.ticks(low, high):
        parts += [_line(_LEFT, y_of(place), _RIGHT, y_of(place)),
                  _text(_LEFT - 6, y_of(place) + 4, text, "end", 11)]
    for place, text in across.ticks(left, right):
        parts += [_line(x_of(place), _TOP, x_of(place), _HEIGHT - _BOTTOM),
                  _text(x_of(place), _HEIGHT - _BOTTOM + 16, text, size=11)]
    parts += [_text(_LEFT + _PLOT / 2, _HEIGHT - 10, across.label),
              f'<g transform="translate(16 {(_HEIGHT - _BOTTOM + _TOP) / 2:.0f}) rotate(-90)">'
              f"{_text(0, 0, up.label)}</g>"]
    for number, (name, own) in enumerate(series.items()):
        places = [(x_of(across.place(x)), y_of(up.place(y))) for x, y in own]
        height = _TOP + 16 * number + 4
        parts += [_series(number, places, marks),
                  _series(number, [(_RIGHT + 14, height), (_RIGHT + 42, height)]),
                  _text(_RIGHT + 48, height + 4, name, "start")]
    width = ceil(_RIGHT + 60 + _EM * max(map(len, series)))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" '
            f'viewBox="0 0 {width} {_HEIGHT}" font-family="sans-serif">'
            f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts)
            + "\n</svg>\n")
