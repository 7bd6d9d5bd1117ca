"""Marks of small charts, as svg that holds nothing but numbers: intervals, bars and curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Number = float | None
# Low end, middle and high end; an end at infinity is not a number.
Interval = tuple[Number, float, Number]


@dataclass(frozen=True)
class Scale:
    """From values to places along one side of a chart.

    Attributes:
        low: Value at place 0.
        high: Value at the other end, above ``low``.
        size: Place of the other end.
    """

    low: float
    high: float
    size: float

    def at(self, value: float) -> float:
        """Return the place of a value; one beyond the ends is put at the nearer end."""
        within = min(max(value, self.low), self.high)
        return (within - self.low) / (self.high - self.low) * self.size

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values within, evenly spaced, at most so many."""
        rough = (self.high - self.low) / most
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(decade * each for each in (1, 2, 5, 10) if decade * each >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


def scale_of(values: Iterable[Number], size: float, margin: float = 0.05) -> Scale:
    """Return a scale that holds all values, with some room beside them."""
    known = [each for each in values if each is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    room = margin * (high - low) or 0.5 * abs(high) or 1.0
    return Scale(low - room, high + room, size)


def scale_of_intervals(
    intervals: Iterable[Interval | None], size: float, beyond: float = 1.0
) -> Scale:
    """Return a scale that holds all middles, and of the ends those that are not far out.

    Args:
        intervals: Those that are known.
        size: Of the chart.
        beyond: How far ends may lie beyond the middles, in units of the range of these.
    """
    known = [each for each in intervals if each is not None]
    middles = [middle for _, middle, _ in known] or [0.0]
    ends = [end for low, _, high in known for end in (low, high) if end is not None]
    narrow = scale_of(middles, size)
    room = beyond * (narrow.high - narrow.low)
    inside = [min(max(end, narrow.low - room), narrow.high + room) for end in ends]
    return scale_of([*middles, *inside], size)


def interval_marks(
    scale: Scale, interval: Interval | None, place: float, *, across: bool = False
) -> str:
    """A line from the low to the high end and a dot; an arrow where an end is off the scale.

    Args:
        scale: Of the values.
        interval: Nothing is drawn of an unknown one.
        place: Where, on the other axis.
        across: Upright, on a scale that grows upwards.
    """
    if interval is None:
        return ""
    low, middle, high = interval
    ends = [scale.low if low is None else low, scale.high if high is None else high]
    marks = []
    for index, end in enumerate(ends):
        is_off = end < scale.low or end > scale.high or (low, high)[index] is None
        marks.append(_arrow(scale, place, index, across) if is_off else "")
    first, last, dot = (_flipped(scale, each, across) for each in (*ends, middle))
    if across:
        line = f"<line class=range x1={place:.1f} x2={place:.1f} y1={first:.1f} y2={last:.1f} />"
        point = f"<circle class=dot cx={place:.1f} cy={dot:.1f} r=3 />"
    else:
        line = f"<line class=range x1={first:.1f} x2={last:.1f} y1={place:.1f} y2={place:.1f} />"
        point = f"<circle class=dot cx={dot:.1f} cy={place:.1f} r=3.5 />"
    return line + "".join(marks) + point


def _flipped(scale: Scale, value: float, across: bool) -> float:
    return scale.size - scale.at(value) if across else scale.at(value)


def _arrow(scale: Scale, place: float, end: int, across: bool) -> str:
    tip = 0.0 if (end == 0) != across else scale.size
    base = 6.0 if tip == 0.0 else scale.size - 6.0
    corners = [(tip, place), (base, place - 4), (base, place + 4)]
    points = " ".join(f"{y:.1f},{x:.1f}" if across else f"{x:.1f},{y:.1f}" for x, y in corners)
    return f"<polygon class=dot points='{points}' />"


def curve(points: Iterable[tuple[float, Number]], across: Scale, up: Scale, kind: str) -> str:
    """A line through points; interrupted where a value is not known."""
    path, pen = [], "M"
    for place, value in points:
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{across.at(place):.1f} {up.size - up.at(value):.1f}")
        pen = "L"
    return f"<path class={kind} d='{''.join(path)}' />" if path else ""


def bars(values: Sequence[Number], highest: float, width: float, height: float) -> str:
    """A bar a value, from 0 to ``highest``, which its title says; none where it is unknown."""
    step = width / len(values)
    marks = []
    for index, value in enumerate(values):
        if value is not None:
            tall = max(value / highest * height, 1.0) if highest > 0 else 1.0
            marks.append(
                f"<rect class=bar x={index * step:.1f} y={height - tall:.1f} "
                f"width={step - 1:.1f} height={tall:.1f}><title>{value:.4g}</title></rect>"
            )
    return "".join(marks)
