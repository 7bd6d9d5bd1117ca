"""Ranked episodes as one html page that needs no network: their figures, and their curves in rows.

The page is laid out in ``page.html`` beside this file; here is what it shows of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.curation.rules import (
    EpisodeFacts,
    is_named,
    numbers_text,
    of_each_step,
    parse_numbers,
    require_numbers,
)
from dql_core.data.episode_reader import StoredEpisode
from dql_core.data.infos import INTERVENTION
from dql_core.evaluation.episodes.measures import MEASURES
from dql_core.evaluation.episodes.scoring import EpisodeScore, Scores
from dql_core.evaluation.offline.charts import Scale, curve, scale_of
from dql_core.page import fill

# What one page can take.
MOST_CURVES, MOST_FIELDS, MOST_LISTED = 6_000, 24, 1_000
# A figure that is larger than those of this share of the others is marked.
MARKED = 0.95
_TEMPLATE = Path(__file__).with_name("page.html")
_WIDTH, _HEIGHT = 150.0, 44.0
# Parts of a long episode, of each of which the smallest and the largest value are drawn.
_PARTS = 60
# The band: from a tenth to nine tenths of all episodes, at so many places of each.
_PLACES, _BAND, _FEWEST_OF_BAND = 25, (0.1, 0.9), 5
# Of all values these are within a chart; a curve that goes beyond runs along its edge.
_WITHIN = (0.002, 0.998)

Series = NDArray[np.float64]


@dataclass(frozen=True)
class _Row:
    """A number over time, of each episode that has it."""

    name: str
    unit: str
    kind: str
    of: Callable[[StoredEpisode], Series | None]


def render(scores: Scores, show: str | None = None) -> str:
    """Return the page.

    Args:
        scores: What was found.
        show: Numbers of the episodes whose curves are shown, as ``0-4,7``; by default the first of
            the ranking, as many as one page can take.

    Raises:
        ConfigError: If the episodes to show are no numbers.
        DatasetError: If there is no such episode.
    """
    able = list(_rows(scores))
    rows = able[:MOST_FIELDS]
    shown = _shown(scores, show, MOST_CURVES // len(rows))
    charts = [_chart(row, list(scores.episodes.values())) for row in rows]
    return fill(
        _TEMPLATE,
        {"ended": _ended},
        scores=scores,
        measures=MEASURES,
        marked=MARKED,
        most_listed=MOST_LISTED,
        has_intervention=any(each.facts.intervention is not None for each in scores.ranking),
        steps=sum(each.facts.length for each in scores.ranking),
        rows=rows,
        charts=charts,
        left_out=[row.name for row in able[MOST_FIELDS:]],
        width=_WIDTH,
        height=_HEIGHT,
        shown=[
            (
                each,
                [
                    _drawn(row, chart["up"], scores.episodes[each.facts.number])
                    for row, chart in zip(rows, charts, strict=True)
                ],
            )
            for each in shown
        ],
        hidden=_others(scores, shown),
    )


def _shown(scores: Scores, show: str | None, most: int) -> tuple[EpisodeScore, ...]:
    """Return the episodes whose curves are shown, in the order of the ranking."""
    if show is None:
        return scores.ranking[:most]
    numbers = parse_numbers(show)
    require_numbers(numbers, max(scores.episodes) + 1, scores.source)
    return tuple(each for each in scores.ranking if is_named(each.facts.number, numbers))


def _others(scores: Scores, shown: Sequence[EpisodeScore]) -> str:
    """Return the numbers of the episodes whose curves are not shown."""
    numbers = {each.facts.number for each in shown}
    return numbers_text(each for each in scores.episodes if each not in numbers)


def _rows(scores: Scores) -> Iterator[_Row]:
    """Yield the rows of curves: reward and intervention, then actions, then observations."""
    if scores.has_rewards:
        yield _Row("reward", "", "of each step", lambda each: each.rewards.astype(np.float64))
    if any(INTERVENTION in each.infos for each in scores.episodes.values()):
        yield _Row(INTERVENTION, "", "who commanded", _intervention)
    for index, field in enumerate(scores.spec.action):
        yield _Row(field.name, field.unit, "action", _column("actions", index))
    for index, field in enumerate(scores.spec.observation):
        yield _Row(field.name, field.unit, "observation", _column("observations", index))


def _column(kind: str, index: int) -> Callable[[StoredEpisode], Series]:
    return lambda each: getattr(each.episode, kind)[:, index].astype(np.float64)


def _intervention(stored: StoredEpisode) -> Series | None:
    if INTERVENTION not in stored.infos:
        return None
    return of_each_step(stored.infos[INTERVENTION], len(stored.rewards)).astype(np.float64)


def _chart(row: _Row, episodes: Sequence[StoredEpisode]) -> dict[str, Any]:
    """Return the scale of a row, which all episodes share, and the band of most of them."""
    series = [values for each in episodes if (values := row.of(each)) is not None]
    low, high = np.quantile(np.concatenate(series), _WITHIN)
    up = scale_of([float(low), float(high)], _HEIGHT, margin=0.1)
    band = []
    if len(series) >= _FEWEST_OF_BAND:
        places = np.linspace(0.0, 1.0, _PLACES)
        drawn = np.stack([each[np.rint(places * (len(each) - 1)).astype(int)] for each in series])
        lower, upper = np.quantile(drawn, _BAND, axis=0)
        corners = [*zip(places, lower, strict=True), *zip(places[::-1], upper[::-1], strict=True)]
        band = [(100.0 * x, 100.0 - 100.0 * up.at(float(y)) / up.size) for x, y in corners]
    return {"up": up, "band": band, "low": float(low), "high": float(high)}


def _drawn(row: _Row, up: Scale, stored: StoredEpisode) -> str:
    """Return the curve of an episode, from its first step to its last over the whole width."""
    values = row.of(stored)
    if values is None:
        return ""
    across = Scale(0.0, max(len(values) - 1.0, 1.0), _WIDTH)
    return curve(_outline(values), across, up, "ours")


def _outline(values: Series) -> list[tuple[float, float]]:
    """Return the points of a curve; of a long one the extremes of each of its parts."""
    if len(values) <= 2 * _PARTS:
        return list(enumerate(values.tolist()))
    points = []
    for part in np.array_split(np.arange(len(values)), _PARTS):
        ends = {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
        points += [(float(place), float(values[place])) for place in sorted(ends)]
    return points


def _ended(facts: EpisodeFacts) -> str:
    """Say how an episode ended."""
    labels = {True: "success, ", False: "failure, ", None: ""}
    return labels[facts.success] + ("terminated" if facts.terminated else "truncated")
