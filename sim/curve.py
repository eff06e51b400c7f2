"""A curve of losses as SVG."""

from collections.abc import Sequence
from html import escape

__all__ = ["curve"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 400, 60, 20, 40, 45
_TEXT = '<text x="{:.1f}" y="{:.1f}" font-size="12" text-anchor="{}">{}</text>'


def _steps(most: float, count: int = 6) -> list[float]:
    """About ``count`` round numbers from 0 to ``most``."""
    if not most > 0:
        return [0.0]
    step = 10.0
    while step > most / count:
        step /= 10
    step *= next(factor for factor in (1, 2, 5, 10, 20) if most / (step * factor) <= count)
    return [index * step for index in range(int(most / step) + 1)]


def curve(losses: Sequence[float], title: str) -> str:
    """Losses by step, from 1 on, and the mean of the last twentieth of all steps at each."""
    count, most = len(losses), max(losses)
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(step: float) -> float:
        return _LEFT + wide * (step - 1) / max(count - 1, 1)

    def y(loss: float) -> float:
        return _TOP + high * (1 - loss / most if most else 1)

    def path(values: Sequence[float], colour: str, width: float) -> str:
        points = " ".join(f"{x(step):.1f},{y(value):.1f}"
                          for step, value in enumerate(values, 1))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    window = max(1, count // 20)
    smooth = [sum(losses[max(0, end - window):end]) / min(end, window)
              for end in range(1, count + 1)]
    parts = [_TEXT.format(_LEFT, 24, "start", escape(title))]
    for loss in _steps(most):
        parts += [f'<line x1="{_LEFT}" y1="{y(loss):.1f}" x2="{_WIDTH - _RIGHT}" y2="{y(loss):.1f}"'
                  ' stroke="#ddd"/>', _TEXT.format(_LEFT - 6, y(loss) + 4, "end", f"{loss:g}")]
    for step in _steps(count):
        if step:
            parts.append(_TEXT.format(x(step), _HEIGHT - _BOTTOM + 18, "middle", f"{step:g}"))
    parts += [_TEXT.format(_LEFT + wide / 2, _HEIGHT - 8, "middle", "step"),
              path(losses, "#9bb7d4", 1), path(smooth, "#1f4e79", 2)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>'
            f'{"".join(parts)}</svg>\n')
