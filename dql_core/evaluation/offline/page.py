"""A judgement as one html page that needs no network, a function of its JSON alone.

The page is laid out in ``page.html`` beside this file; here is what it shows of the numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from dql_core.evaluation.offline.charts import (
    Interval,
    Scale,
    bars,
    curve,
    interval_marks,
    scale_of,
    scale_of_intervals,
)
from dql_core.evaluation.offline.support import OWN_FAR_SHARE
from dql_core.evaluation.offline.verdict import WORDS
from dql_core.page import Filters, fill

Row = Mapping[str, Any]
# What one page can take; all of it is in the JSON.
MOST_DETAILED, MOST_FIELDS = 20, 12
_TEMPLATE = Path(__file__).with_name("page.html")
# Sizes of the charts, in pixels of an unscaled page.
_LANE, _LANE_HEIGHT = 300.0, 22.0
_CURVE, _CURVE_HEIGHT = 420.0, 170.0
_SERIES, _SERIES_HEIGHT = 220.0, 56.0


def render(judgement: Row) -> str:
    """Return the page.

    Args:
        judgement: What `Judgement.to_json` returned, or `shadow.document_of`, also after a trip
            through JSON.
    """
    policies = judgement["policies"]
    is_valued = judgement["behaviour"] is not None
    names = [each["name"] for each in policies]
    return fill(
        _TEMPLATE,
        _FILTERS,
        judgement=judgement,
        names=dict(zip(names, short_names(names), strict=True)),
        words=WORDS,
        own_far_share=OWN_FAR_SHARE,
        lanes=_lanes(judgement) if is_valued else {},
        runs=_runs(judgement) if is_valued else [],
        shadow=judgement.get("shadow"),
        most_detailed=MOST_DETAILED,
        most_fields=MOST_FIELDS,
    )


def short_names(names: Sequence[str]) -> list[str]:
    """Return paths without the folders that they have in common, nor a run's own."""
    common = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return [os.path.relpath(name, common or ".").replace("checkpoints/", "") for name in names]


def _interval(estimate: Row | None) -> Interval | None:
    if estimate is None or estimate["mean"] is None:
        return None
    low, high = estimate["ci95"]
    return low, estimate["mean"], high


def _lanes(judgement: Row) -> Row:
    """The values of all policies on one scale, each with its interval, and the behaviour's own."""
    behaviour = _interval(judgement["behaviour"]["value"])
    values = [_interval(each["worth"]["value"]) for each in judgement["policies"]]
    scale = scale_of_intervals([behaviour, *values], _LANE)
    return {
        "behaviour": interval_marks(scale, behaviour, _LANE_HEIGHT / 2),
        "policies": [interval_marks(scale, each, _LANE_HEIGHT / 2) for each in values],
        "ticks": [(scale.at(tick), tick) for tick in scale.ticks()],
        "band": _band(scale, behaviour),
    }


def _band(scale: Scale, interval: Interval | None) -> tuple[float, float, float]:
    """Places of an interval's low end, middle and high end; outside of the chart if unknown."""
    if interval is None:
        return -1.0, -1.0, -1.0
    low, middle, high = interval
    ends = (scale.low if low is None else low, middle, scale.high if high is None else high)
    return scale.at(ends[0]), scale.at(ends[1]), scale.at(ends[2])


def _runs(judgement: Row) -> list[Row]:
    """A chart of each run of which several checkpoints were judged, all on one scale."""
    able = [each for each in judgement["policies"] if "run" in each and "step" in each]
    able.sort(key=lambda each: (each["run"], each["step"]))
    groups = [list(group) for _, group in groupby(able, key=lambda each: each["run"])]
    runs = [group for group in groups if len({each["step"] for each in group}) > 1]
    behaviour = _interval(judgement["behaviour"]["value"])
    values = [_interval(each["worth"]["value"]) for run in runs for each in run]
    up = scale_of_intervals([behaviour, *values], _CURVE_HEIGHT)
    names = short_names([run[0]["run"] for run in runs])
    return [
        {
            "name": name,
            "agent": run[0].get("agent"),
            "up": [(up.size - up.at(tick), tick) for tick in up.ticks()],
            "band": [up.size - place for place in reversed(_band(up, behaviour))],
            "width": _CURVE,
            "height": _CURVE_HEIGHT,
            **_curve(run, up),
        }
        for name, run in zip(names, runs, strict=True)
    ]


def _curve(run: Sequence[Row], up: Scale) -> Row:
    """What is drawn of a run, by update number."""
    across = scale_of([each["step"] for each in run], _CURVE)
    intervals = [_interval(each["worth"]["value"]) for each in run]
    middles = [each and each[1] for each in intervals]
    places = [each["step"] for each in run]
    return {
        "across": [(across.at(tick), tick) for tick in across.ticks() if tick >= 0],
        "line": curve(zip(places, middles, strict=True), across, up, "means"),
        "points": [
            {
                "x": across.at(place),
                "policy": policy,
                "marks": interval_marks(up, interval, across.at(place), across=True),
            }
            for place, policy, interval in zip(places, run, intervals, strict=True)
        ],
    }


def _part_bars(field: Row, fields: Sequence[Row]) -> str:
    """How far a field is from the recorded in each tenth of the episodes, in its spreads."""
    highest = max((each or 0.0) / one["spread"] for one in fields for each in one["by_part"])
    shares = [None if each is None else each / field["spread"] for each in field["by_part"]]
    return bars(shares, highest, _SERIES, _SERIES_HEIGHT)


def _series(moment: Row, name: str) -> Row:
    """Lines of an action field, recorded and chosen, or of an observation field."""
    kinds = [("recorded", "before"), ("chosen", "ours"), ("observation", "ours")]
    lines = [(moment[key][name], kind) for key, kind in kinds if name in moment[key]]
    known = [each for values, _ in lines for each in values if each is not None] or [0.0]
    up = scale_of(known, _SERIES_HEIGHT)
    last = max(len(lines[0][0]) - 1, 1)
    across = Scale(0.0, float(last), _SERIES)
    return {
        "marks": "".join(curve(enumerate(values), across, up, kind) for values, kind in lines),
        "now": across.at(moment["step"] - moment["first_step"]),
        "ends": [(up.size - up.at(each), each) for each in sorted({min(known), max(known)})],
    }


def _span(moment: Row, rate_hz: float) -> tuple[str, str]:
    """Where the series of a moment begin and end, from the moment on."""
    count = len(next(iter(moment["recorded"].values())))
    first = moment["first_step"] - moment["step"]
    return _apart(first, rate_hz), _apart(first + count - 1, rate_hz)


def _apart(steps: int, rate_hz: float) -> str:
    number, unit = (steps / rate_hz, "s") if rate_hz > 0 else (steps, "steps")
    return f"{number:+.3g} {unit}" if steps else f"0 {unit}"


def _fit(trace: Sequence[float | None]) -> str:
    """The difference from the behaviour at each reading of the fit."""
    up = scale_of([*trace, 0.0], _SERIES_HEIGHT)
    across = Scale(0.0, max(len(trace) - 1.0, 1.0), _SERIES)
    zero = up.size - up.at(0.0)
    return f"<line class=zero x1=0 x2={_SERIES} y1={zero:.1f} y2={zero:.1f} />" + curve(
        enumerate(trace), across, up, "ours"
    )


_FILTERS: Filters = {"part_bars": _part_bars, "series": _series, "span": _span, "fit": _fit}
