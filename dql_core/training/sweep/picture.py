"""What a sweep found as a picture: the values of its trials over each key, as svg."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from dql_core.evaluation.offline.charts import Scale, scale_of, scale_of_intervals
from dql_core.training.sweep.space import Range, Space, Value
from dql_core.training.sweep.trials import Trial

# A chart, and the room for its text, in pixels.
WIDTH, HEIGHT = 220.0, 130.0
LEFT, TOP, RIGHT, BELOW = 52.0, 30.0, 14.0, 26.0
IN_A_ROW = 3
# Of a key with more values, so many names are written.
MOST_NAMES = 5
_STYLE = """
rect { fill: #ffffff }
text { font: 10px system-ui, sans-serif; fill: #4a4f57 }
.title { font-weight: 600; fill: #1c1f24 }
line { stroke: #cfd4da; stroke-width: 1 }
.range { stroke: #93a1b5; stroke-opacity: 0.5 }
circle { fill: #4a6fa5; fill-opacity: 0.75 }
.pruned { fill: #b0b7c1 }
.best { fill: #d1495b; fill-opacity: 1 }
"""


def draw(space: Space, trials: Sequence[Trial], weights: Mapping[str, float], title: str) -> str:
    """Return the picture.

    Args:
        space: What was searched.
        trials: Those that have a value, the best one first; at least one.
        weights: How much each key matters, as far as that is known.
        title: What the values are.
    """
    keys = sorted(space.keys, key=lambda key: -weights.get(key, 0.0))
    rows = math.ceil(len(keys) / IN_A_ROW)
    columns = min(len(keys), IN_A_ROW)
    wide, tall = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BELOW
    width, height = max(columns * wide, 2 * wide), rows * tall + 40
    up = scale_of_intervals([_interval(trial) for trial in trials], HEIGHT)
    charts = (
        f'<g transform="translate({index % IN_A_ROW * wide + LEFT:.0f} '
        f'{index // IN_A_ROW * tall + TOP + 34:.0f})">'
        f"{''.join(_chart(key, space.keys[key], trials, weights, up))}</g>"
        for index, key in enumerate(keys)
    )
    lines = "".join(
        f'<text x="10" y="{16 + 13 * number}">{escape(line)}</text>'
        for number, line in enumerate(title.split("; "))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">\n<style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%"/>\n{lines}\n' + "\n".join(charts) + "\n</svg>\n"
    )


def _chart(
    key: str,
    values: Range | tuple[Value, ...],
    trials: Sequence[Trial],
    weights: Mapping[str, float],
    up: Scale,
) -> Iterator[str]:
    """Yield the parts of the chart of one key."""
    share = f" ({weights[key]:.0%} of what matters)" if key in weights else ""
    yield f'<text class="title" x="0" y="-8">{escape(key)}{share}</text>'
    yield f'<line x1="0" x2="{WIDTH:.0f}" y1="{HEIGHT:.0f}" y2="{HEIGHT:.0f}"/>'
    for tick in up.ticks(4):
        place = HEIGHT - up.at(tick)
        yield f'<line x1="0" x2="{WIDTH:.0f}" y1="{place:.1f}" y2="{place:.1f}"/>'
        yield f'<text x="-5" y="{place + 3:.1f}" text-anchor="end">{tick:.4g}</text>'
    across = _Across(values)
    for place, name in across.names():
        yield (
            f'<text x="{place:.1f}" y="{HEIGHT + 14:.0f}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    for trial in reversed(trials):  # the best one on top
        yield from _mark(trial, across.at(trial.parameters[key]), up, is_best=trial is trials[0])


def _mark(trial: Trial, place: float, up: Scale, *, is_best: bool) -> Iterator[str]:
    interval = _interval(trial)
    if interval is None:
        return
    low, value, high = interval
    if low is not None and high is not None:
        ends = (HEIGHT - up.at(low), HEIGHT - up.at(high))
        yield (
            f'<line class="range" x1="{place:.1f}" x2="{place:.1f}" y1="{ends[0]:.1f}" '
            f'y2="{ends[1]:.1f}"/>'
        )
    kind = ' class="best"' if is_best else ' class="pruned"' if trial.pruned else ""
    yield (
        f'<circle{kind} cx="{place:.1f}" cy="{HEIGHT - up.at(value):.1f}" '
        f'r="{4 if is_best else 3}"><title>{escape(trial.folder.name)}: {value:.4g}</title>'
        f"</circle>"
    )


def _interval(trial: Trial) -> tuple[float | None, float, float | None] | None:
    if trial.best is None:
        return None
    return trial.interval[0], trial.best.value, trial.interval[1]


class _Across:
    """Where a key's values are along its axis: numbers by their size, others one after another."""

    def __init__(self, values: Range | tuple[Value, ...]) -> None:
        self._is_log = isinstance(values, Range) and values.log
        self._range = values if isinstance(values, Range) else None
        self._values = () if isinstance(values, Range) else values
        self._scale = scale_of(
            [self._size(each) for each in values.ends]
            if isinstance(values, Range)
            else [-0.5, len(values) - 0.5],
            WIDTH,
        )

    def _size(self, value: Value) -> float:
        number = float(str(value))
        return math.log10(number) if self._is_log else number

    def at(self, value: Value) -> float:
        """Return the place of a value."""
        if self._range:
            return self._scale.at(self._size(value))
        return self._scale.at(self._values.index(value))

    def names(self) -> Iterator[tuple[float, str]]:
        """Yield where something is written, and what."""
        if self._range:
            for end in self._range.ends:
                yield self.at(end), f"{end:g}"
            return
        every = math.ceil(len(self._values) / MOST_NAMES)
        for value in self._values[::every]:
            yield self.at(value), f"{value:g}" if isinstance(value, float) else str(value)
