"""Predicates over an episode: element t tells of what the action of step t led to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.rewards.arguments import NamesOrNumbers, Numbers, distances, limits, names, number
from dql_core.rewards.episode import LoggedEpisode


def within_distance(
    episode: LoggedEpisode, *, position: Sequence[str], goal: NamesOrNumbers, radius: float
) -> NDArray[np.bool_]:
    """Tell where the goal is reached.

    Args:
        episode: The episode.
        position: Observation fields of the robot's position.
        goal: Observation fields of the goal's in the same order; a number is a fixed coordinate.
        radius: The goal is reached at a distance of at most so much, in the fields' unit.

    Raises:
        ContractError: If a field does not exist, or the radius is not positive.
    """
    reached: NDArray[np.bool_] = distances(episode, position, goal)[1:] <= number(
        "radius", radius, positive=True
    )
    return reached


def outside_bounds(
    episode: LoggedEpisode,
    *,
    fields: Sequence[str],
    low: Numbers | None = None,
    high: Numbers | None = None,
) -> NDArray[np.bool_]:
    """Tell where any of some observation fields is beyond its limits; NaN is beyond any.

    Args:
        episode: The episode.
        fields: Observation fields.
        low: Lower limits, one for each or one for all; the contract's bounds by default.
        high: Upper limits, likewise.

    Raises:
        ContractError: If a field does not exist or has no limit on either side.
    """
    chosen = names("fields", fields)
    lower, upper = limits(episode, chosen, low, high)
    for name, least, greatest in zip(chosen, lower, upper, strict=True):
        if np.isinf(least) and np.isinf(greatest):
            raise ContractError(
                f"'{name}' has no limits; give 'low' or 'high' here, or bounds in the contract"
            )
    reached = episode.observation_fields(chosen)[1:]
    inside: NDArray[np.bool_] = np.logical_and.reduce(
        (reached >= lower) & (reached <= upper), axis=1
    )
    return ~inside
