"""Timeline and roofline of a program as one SVG."""

from collections.abc import Iterator
from html import escape
from math import log10

from sim.cycles.fields import LANES
from sim.cycles.report import Row, by_command, by_part, total
from sim.cycles.simulate import Run
from sim.cycles.workload import Workload

__all__ = ["draw"]

_WIDTH, _LEFT, _RIGHT = 1200, 70, 20
_LANE, _TOP, _GAP = 34, 60, 90
_ROOF = 420
_COLOURS = ("#3b6ea5", "#c46a2b", "#4e8f5a", "#8b5fa8", "#a8434f", "#5c7f8a")
_BEATS = {"read": "read_beats", "array": "array_rows", "vector": "vector_beats",
          "write": "write_beats"}


def _text(x: float, y: float, text: str, size: int = 12, anchor: str = "start") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}">{escape(text)}</text>')


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#bbb") -> str:
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}"/>')


def _ticks(cycles: int) -> list[int]:
    """About eight round numbers up to ``cycles``."""
    step = 10 ** int(log10(max(cycles, 10) / 8))
    step *= next((factor for factor in (1, 2, 5) if cycles <= 8 * step * factor), 10)
    return list(range(0, cycles + 1, step))


def _colours(work: Workload) -> list[str]:
    """One colour per command: that of the tensor it writes, the same in every layer."""
    known: dict[str, str] = {}
    found = []
    for label, part in zip(work.labels, work.parts, strict=True):
        role = label.removeprefix(part)
        known.setdefault(role, _COLOURS[len(known) % len(_COLOURS)])
        found.append(known[role])
    return found


def _bars(work: Workload, run: Run, scale: float, top: float) -> Iterator[str]:
    """A bar from a command's first to its last beat in a lane, as opaque as the lane was busy."""
    colours = _colours(work)
    for index, counts in enumerate(run.counts):
        if not work.labels[index]:
            continue
        for lane, name in enumerate(LANES):
            first, last = int(counts["first"][lane]), int(counts["last"][lane])
            if first < 0:
                continue
            beats, length = int(counts[_BEATS[name]]), last - first + 1
            title = (f"{work.labels[index]}: {name} {first} to {last}, {beats} beats, "
                     f"{beats / length:.0%} busy")
            yield (f'<rect x="{_LEFT + first * scale:.2f}" y="{top + lane * _LANE:.0f}" '
                   f'width="{max(length * scale, 0.4):.2f}" height="{_LANE - 8}" '
                   f'fill="{colours[index]}" fill-opacity="{0.2 + 0.8 * beats / length:.2f}">'
                   f'<title>{escape(title)}</title></rect>')


def _timeline(work: Workload, run: Run) -> Iterator[str]:
    scale = (_WIDTH - _LEFT - _RIGHT) / max(run.cycles, 1)
    bottom = _TOP + _LANE * len(LANES)
    for cycle in _ticks(run.cycles):
        x = _LEFT + cycle * scale
        yield _line(x, _TOP - 6, x, bottom)
        yield _text(x, bottom + 14, f"{cycle:,}", 10, "middle")
    yield _text(_LEFT, bottom + 32, "cycles; a bar runs from a command's first to its last beat "
                "there, darker where the lane was busier", 11)
    for lane, name in enumerate(LANES):
        yield _text(_LEFT - 8, _TOP + lane * _LANE + 17, name, 12, "end")
    yield from _bars(work, run, scale, _TOP)


def _intensity(row: Row, bus_bytes: int) -> float:
    """MACs for each byte on the busier of the two data channels."""
    beats = max(row.counts["read_beats"], row.counts["write_beats"], 1)
    return row.macs / (beats * bus_bytes)


class _Axes:
    """Log scales: MACs per byte from left to right, MACs per cycle upwards."""

    def __init__(self, top: float, low: float, high: float, floor: float, peak: float) -> None:
        self.low, self.high, self.floor, self.peak = low, high, floor, peak
        self.top, self.bottom = top, top + _ROOF - 60

    def x(self, intensity: float) -> float:
        share = log10(max(intensity, self.low) / self.low) / log10(self.high / self.low)
        return _LEFT + min(share, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, rate: float) -> float:
        share = log10(max(rate, self.floor) / self.floor) / log10(2 * self.peak / self.floor)
        return self.bottom - share * (self.bottom - self.top)


def _marks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade."""
    first, last = int(log10(low)) - 1, int(log10(high)) + 1
    found = [factor * 10.0 ** power for power in range(first, last + 1) for factor in (1, 2, 5)]
    return [mark for mark in found if low <= mark <= high]


def _points(axes: _Axes, rows: list[Row], bus_bytes: int, radius: int, colour: str,
            parts: list[str]) -> Iterator[str]:
    """One circle per row; its name once, whatever the layer."""
    named: set[str] = set()
    for row in rows:
        rate, intensity = row.macs / row.cycles, _intensity(row, bus_bytes)
        x, y = axes.x(intensity), axes.y(rate)
        title = f"{row.label} {row.shape}: {rate:.1f} MACs a cycle, {intensity:.1f} a byte"
        yield (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" '
               f'fill-opacity="0.6"><title>{escape(title)}</title></circle>')
        part = next((part for part in parts if row.label.startswith(part)), "")
        role = row.label.removeprefix(part).strip()
        if role and role not in named:
            yield _text(x + 6, y + 14 + 11 * (len(named) % 6), role, 9)
            named.add(role)


def _roofline(work: Workload, run: Run, top: float) -> Iterator[str]:
    config = run.config
    rows = [row for row in by_command(work, run) if row.macs and row.cycles]
    layers = [row for row in (*by_part(work, run), total(work, run)) if row.macs and row.cycles]
    peak, bus = config.dim ** 2, config.bus_bytes
    found = [*(_intensity(row, bus) for row in (*rows, *layers)), peak / bus]
    rates = [row.macs / row.cycles for row in (*rows, *layers)]
    axes = _Axes(top, min(found) / 2, max(found) * 2, min(peak / 20, min(rates) / 2), peak)
    for mark in _marks(axes.low, axes.high):
        yield _line(axes.x(mark), axes.top, axes.x(mark), axes.bottom, "#ddd")
        yield _text(axes.x(mark), axes.bottom + 14, f"{mark:g}", 10, "middle")
    for mark in _marks(axes.floor, 2 * peak):
        yield _line(_LEFT, axes.y(mark), _WIDTH - _RIGHT, axes.y(mark), "#ddd")
        yield _text(_LEFT - 6, axes.y(mark) + 4, f"{mark:g}", 10, "end")
    corners = [(axes.low, axes.low * bus), (peak / bus, peak), (axes.high, peak)]
    points = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in corners)
    yield f'<polyline points="{points}" fill="none" stroke="#333" stroke-width="2"/>'
    yield _text(_LEFT + 6, axes.y(peak) - 8, f"array: {peak} MACs a cycle; bus: {bus} bytes a "
                "cycle and direction", 12)
    parts = sorted(set(work.parts) - {""}, key=len, reverse=True)
    yield from _points(axes, rows, bus, 4, "#3b6ea5", parts)
    yield from _points(axes, layers, bus, 6, "#a8434f", [*parts, "total"])
    yield _text(_LEFT, axes.bottom + 32, "MACs for each byte on the busier channel, against MACs "
                "a cycle; blue: commands, red: layers and the whole", 11)


def draw(work: Workload, run: Run) -> str:
    """The SVG's text: above the four lanes over time, below the roofline."""
    whole = total(work, run)
    config = run.config
    title = (f"{work.name}: {run.cycles:,} cycles, {whole.utilisation(config.dim):.1%} of the "
             f"array's peak, {run.bound.ratio(run.active):.3f} times the lower bound (D = "
             f"{config.dim}, L = {config.lanes}, {8 * config.bus_bytes}-bit bus)")
    roof = _TOP + _LANE * len(LANES) + _GAP
    height = roof + _ROOF
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
             f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
             f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
             _text(_LEFT, 28, title, 16), *_timeline(work, run), *_roofline(work, run, roof)]
    return "\n".join([*parts, "</svg>"]) + "\n"
