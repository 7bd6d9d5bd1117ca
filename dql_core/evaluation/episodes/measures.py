"""What may be wrong with an episode, in figures: each is larger the worse it looks."""

# ruff: noqa: PLC0415 - the names of the measures, which are options of a verb, need no torch.

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dql_core.normalize import Normalizer
from dql_core.spec import PolicySpec

if TYPE_CHECKING:
    from dql_core.data.dataset import Episode

Measure = Literal["jerk", "standstill", "at_bounds", "outliers", "disagreement"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
# A step that moves by less than this share of what is usual is standstill.
STILL = 0.1
# An action within this share of its range from a bound is at it.
NEAR_BOUND = 1e-3
# A value is far if it is as far beyond nine tenths of all values as these are wide.
MIDDLE = (0.05, 0.95)
# A change is a jump if it is so many times what 99 of 100 changes stay below.
JUMP = 3.0
NEIGHBOURS = 10
MAX_ASKED = 5_000
LEAST_ASKED = 4

Figures = NDArray[np.float64]


def jerk(episodes: Sequence[Episode]) -> Figures:
    """Mean absolute second difference of the actions, in units of the mean over all episodes.

    The mean is over the action fields that change at all. NaN for an episode of fewer than three
    steps.
    """
    seconds = [np.abs(np.diff(each.actions.astype(np.float64), n=2, axis=0)) for each in episodes]
    every = np.concatenate(seconds)
    usual = every.mean(axis=0) if len(every) else np.zeros(every.shape[1])
    moves = usual > 0
    return np.array(
        [
            (each.mean(axis=0)[moves] / usual[moves]).mean()
            if len(each) and moves.any()
            else (0.0 if len(each) else np.nan)
            for each in seconds
        ]
    )


def standstill(episodes: Sequence[Episode]) -> Figures:
    """Share of the steps in which the observation moves by less than `STILL` of what is usual.

    A step's movement is the root mean square over the observation fields of its change, each in
    units of the root mean square change of that field in all episodes.
    """
    changes = [np.diff(each.observations.astype(np.float64), axis=0) for each in episodes]
    total = np.sum([np.square(each).sum(axis=0) for each in changes], axis=0)
    usual = np.sqrt(total / sum(map(len, changes)))
    moves = usual > 0
    if not moves.any():
        return np.ones(len(episodes))
    return np.array(
        [
            (np.sqrt(np.square(each[:, moves] / usual[moves]).mean(axis=1)) < STILL).mean()
            for each in changes
        ]
    )


def at_bounds(episodes: Sequence[Episode], spec: PolicySpec) -> Figures:
    """Share of the steps in which an action field is at one of its bounds."""
    low, high = spec.action_low.astype(np.float64), spec.action_high.astype(np.float64)
    near = NEAR_BOUND * (high - low)
    return np.array(
        [
            ((each.actions <= low + near) | (each.actions >= high - near)).any(axis=1).mean()
            for each in episodes
        ]
    )


def outliers(episodes: Sequence[Episode], spec: PolicySpec) -> tuple[Figures, list[str]]:
    """Share of the steps in which a value is far from all others, or jumps.

    A value is far if it lies beyond the middle nine tenths of all values of its field (`MIDDLE`)
    by more than they are wide, which is 4.9 standard deviations where they are normal. It jumps
    where it changes by more than `JUMP` times what 99 of 100 changes stay below.

    Returns:
        The shares, and the names of the fields of which no value is called far, since nine tenths
        of them are equal.
    """
    flags = [np.zeros(len(each), dtype=bool) for each in episodes]
    without = []
    for kind, fields in (("observations", spec.observation), ("actions", spec.action)):
        for column, field in enumerate(fields):
            values = [getattr(each, kind)[:, column].astype(np.float64) for each in episodes]
            low, high = np.quantile(np.concatenate(values), MIDDLE)
            if low == high:
                without.append(field.name)
            else:
                _mark(flags, values, 2.0 * low - high, 2.0 * high - low)
            changes = [np.abs(np.diff(each)) for each in values]
            usual = np.quantile(np.concatenate([*changes, [0.0]]), 0.99)
            if usual > 0:
                _mark(flags, changes, 0.0, JUMP * usual)
    return np.array([flag.mean() for flag in flags]), without


def _mark(
    flags: Sequence[NDArray[np.bool_]], values: Sequence[Figures], low: float, high: float
) -> None:
    """Mark the steps whose values are beyond limits; the last value belongs to the last step."""
    for flag, rows in zip(flags, values, strict=True):
        count = min(len(rows), len(flag))
        found = rows[len(rows) - count :]
        flag[len(flag) - count :] |= (found < low) | (found > high)


def disagreement(
    episodes: Sequence[Episode], spec: PolicySpec, seed: int
) -> tuple[Figures, int, int]:
    """How far actions are from all that was done in other episodes in the states most like theirs.

    The distance from an action to the nearest of those of the `NEIGHBOURS` nearest observations,
    root mean square over the action fields in units of their standard deviation, mean over steps.
    Two ways of doing a thing do not disagree, since the nearest counts.

    Args:
        episodes: All of a dataset.
        spec: Of their vectors.
        seed: Of the draw of recorded steps, where there are more than `MAX_RECORDED` of them.

    Returns:
        The figures, NaN for a single episode; how many steps were asked; and with how many they
        were compared.
    """
    from dql_core.evaluation.offline.recording import SMALLEST_ACTION_STD
    from dql_core.evaluation.offline.support import MAX_RECORDED, nearest_rows

    if len(episodes) < 2:
        return np.full(len(episodes), np.nan), 0, 0
    rows = np.concatenate([each.observations[:-1] for each in episodes])
    actions = np.concatenate([each.actions for each in episodes])
    numbers = np.repeat(np.arange(len(episodes)), [len(each) for each in episodes])
    normal = Normalizer.fit(rows, spec).observation(rows)
    least = SMALLEST_ACTION_STD * (spec.action_high - spec.action_low)
    scaled = actions / np.maximum(actions.std(axis=0), least) / np.sqrt(len(spec.action))
    most = max(LEAST_ASKED, MAX_ASKED // len(episodes))
    firsts = np.concatenate([[0], np.cumsum([len(each) for each in episodes])])
    asked = np.concatenate(
        [
            np.unique(np.linspace(first, last - 1, min(most, last - first)).astype(np.int64))
            for first, last in pairwise(firsts)
        ]
    )
    recorded = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MAX_RECORDED])
    places = nearest_rows(
        normal[asked],
        normal[recorded],
        lambda part: numbers[asked[part], None] == numbers[recorded],
        max(min(NEIGHBOURS, len(recorded) - int(np.bincount(numbers[recorded]).max())), 1),
    )
    apart = scaled[recorded[places]] - scaled[asked, None]
    distances = np.linalg.norm(apart, axis=-1).min(axis=-1)
    counts = np.bincount(numbers[asked], minlength=len(episodes))
    sums = np.bincount(numbers[asked], weights=distances, minlength=len(episodes))
    return sums / counts, len(asked), len(recorded)
