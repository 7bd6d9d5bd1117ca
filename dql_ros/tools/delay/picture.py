"""The delays of a bag as one picture (svg) that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from dql_core.evaluation.offline.charts import Scale, scale_of

_STYLE = """
svg { font: 12px system-ui, sans-serif; background: #fff; color: #1b1f24 }
text { fill: currentColor } .soft { opacity: .65 }
.axis { stroke: currentColor; fill: none; opacity: .4 }
.left, .command { stroke: #2f6fbd; fill: none; stroke-width: 1.5 }
.state { stroke: #c2410c; fill: none; stroke-width: 1.5 }
.command { opacity: .6 } .band { fill: #3f9d63; opacity: .3 } .at { stroke: #3f9d63 }
@media (prefers-color-scheme: dark) { svg { background: #0d1117; color: #e6edf3 } }
"""
_CURVE, _SERIES, _HEIGHT, _LANE, _MARGIN = 330.0, 480.0, 130.0, 210.0, 60.0


def draw(bag: str, delays: Mapping[str, Any]) -> str:
    """Return the picture: of each pair what every delay leaves unexplained, and both over time.

    Args:
        bag: Its name.
        delays: What `find_delays` returned, also after a trip through JSON.
    """
    pairs = [pair for pair in delays["pairs"] if pair["state"] is not None]
    width, height = _CURVE + _SERIES + 3 * _MARGIN, 40 + _LANE * max(len(pairs), 1)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' "
        f"width='{width:g}' height='{height:g}'><style>{_STYLE}</style>",
        f"<text x='{_MARGIN:g}' y='24'><tspan font-weight='bold'>{_text(bag)}</tspan>: what each "
        f"delay leaves unexplained, and what was commanded beside what answered, later by the "
        f"delay</text>",
    ]
    for index, pair in enumerate(pairs):
        parts.append(f"<g transform='translate({_MARGIN:g} {40 + _LANE * index:g})'>")
        parts += _lane(pair)
        parts.append("</g>")
    return "".join([*parts, "</svg>\n"])


def _lane(pair: Mapping[str, Any]) -> Iterator[str]:
    how = "the speed of " if pair["answers_by"] == "speed" else ""
    verdict = shown_delay(pair)
    yield f"<text y='16'>{_text(pair['command'])} &#8594; {how}{_text(pair['state'])}: "
    yield f"{_text(verdict)}</text><g transform='translate(0 28)'>{_curve(pair)}</g>"
    yield f"<g transform='translate({_CURVE + _MARGIN:g} 28)'>{_series(pair)}</g>"


def shown_delay(pair: Mapping[str, Any]) -> str:
    """Return a pair's delay in words; where it cannot be told, why."""
    if pair["doubt"]:
        return f"cannot tell: {pair['doubt']}"
    return f"{pair['delay_ms']:.1f} ms, 95 % {pair['low_ms']:.1f} to {pair['high_ms']:.1f} ms"


def _curve(pair: Mapping[str, Any]) -> str:
    found = pair["curve"]
    if not found["delay_ms"]:
        return ""
    across = Scale(found["delay_ms"][0], found["delay_ms"][-1], _CURVE)
    up = scale_of([0.0, *found["unexplained"]], _HEIGHT, margin=0.0)
    low, high, best = (across.at(pair[key]) for key in ("low_ms", "high_ms", "delay_ms"))
    line = _line(zip(found["delay_ms"], found["unexplained"], strict=True), across, up, "left")
    return (
        f"<rect class='band' x='{low:.1f}' y='0' width='{max(high - low, 1):.1f}' "
        f"height='{_HEIGHT:g}'/><line class='at' x1='{best:.1f}' x2='{best:.1f}' y1='0' "
        f"y2='{_HEIGHT:g}'/>{line}"
        f"{_frame(across, _CURVE, 'ms')}"
    )


def _series(pair: Mapping[str, Any]) -> str:
    example = pair["example"]
    if not example:
        return ""
    later_s = (pair["delay_ms"] or 0.0) / 1000
    begin, end = example["command_s"][0], example["command_s"][-1]
    across = Scale(begin, end, _SERIES)
    lines = []
    for kind, shift_s in (("command", later_s), ("state", 0.0)):
        times: Sequence[float] = [each + shift_s for each in example[f"{kind}_s"]]
        points = [each for each in zip(times, example[kind], strict=True) if each[0] <= end]
        lines.append(_line(points, across, scale_of([y for _, y in points], _HEIGHT), kind))
    return f"{''.join(lines)}{_frame(across, _SERIES, 's')}"


def _frame(across: Scale, width: float, unit: str) -> str:
    marks = []
    for tick in across.ticks():
        x = across.at(tick)
        marks.append(
            f"<line class='axis' x1='{x:.1f}' x2='{x:.1f}' y1='{_HEIGHT:g}' "
            f"y2='{_HEIGHT + 4:g}'/><text class='soft' x='{x:.1f}' y='{_HEIGHT + 18:g}' "
            f"text-anchor='middle'>{tick:g} {unit}</text>"
        )
    return f"<path class='axis' d='M0 0V{_HEIGHT:g}H{width:g}'/>{''.join(marks)}"


def _line(points: Iterable[tuple[float, float]], across: Scale, up: Scale, kind: str) -> str:
    """A line through points."""
    places = (f"{across.at(x):.1f},{up.size - up.at(y):.1f}" for x, y in points)
    return f"<polyline class='{kind}' points='{' '.join(places)}'/>"


def _text(given: object) -> str:
    """Text that is no markup, whatever a bag calls its topics."""
    return escape("".join(each if each.isprintable() else "?" for each in str(given)))
