"""Rewards of common tasks: distances, efforts, successes and limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.rewards.arguments import (
    NamesOrNumbers,
    Numbers,
    distances,
    limits,
    names,
    number,
    numbers,
)
from dql_core.rewards.episode import LoggedEpisode


def distance_to_goal(
    episode: LoggedEpisode, *, position: Sequence[str], goal: NamesOrNumbers
) -> NDArray[np.float64]:
    """Minus the Euclidean distance to the goal that each action led to, in the fields' unit.

    Args:
        episode: The episode.
        position: Observation fields of the robot's position.
        goal: Observation fields of the goal's in the same order; a number is a fixed coordinate.

    Raises:
        ContractError: If a field does not exist, or the two differ in number.
    """
    return -distances(episode, position, goal)[1:]


def action_cost(
    episode: LoggedEpisode, *, fields: Sequence[str] | None = None, weights: Numbers = 1.0
) -> NDArray[np.float64]:
    """Minus the weighted sum of the squared actions.

    Args:
        episode: The episode.
        fields: Action fields that count; all by default.
        weights: Factors of the squares, one for each field or one for all.

    Raises:
        ContractError: If a field does not exist, or the weights are not as many.
    """
    known = [field.name for field in episode.spec.action]
    chosen = known if fields is None else names("fields", fields)
    costs: NDArray[np.float64] = episode.action_fields(chosen) ** 2 @ numbers(
        "weights", weights, chosen
    )
    return -costs


def success_bonus(
    episode: LoggedEpisode,
    *,
    position: Sequence[str],
    goal: NamesOrNumbers,
    radius: float,
    bonus: float = 1.0,
    once: bool = True,
) -> NDArray[np.float64]:
    """A bonus for the action that led to the goal.

    Args:
        episode: The episode.
        position: Observation fields of the robot's position.
        goal: Observation fields of the goal's in the same order; a number is a fixed coordinate.
        radius: The goal is reached at a distance of at most so much, in the fields' unit.
        bonus: The reward.
        once: For the first step that reaches the goal, rather than for each step that is there
            afterwards.

    Raises:
        ContractError: If a field does not exist, or an argument is out of its range.
    """
    within = distances(episode, position, goal)[1:] <= number("radius", radius, positive=True)
    if once:
        within &= np.cumsum(within) == 1
    return within.astype(np.float64) * number("bonus", bonus)


def joint_limit_penalty(
    episode: LoggedEpisode,
    *,
    fields: Sequence[str],
    margin: Numbers,
    low: Numbers | None = None,
    high: Numbers | None = None,
) -> NDArray[np.float64]:
    """Minus how deep joints are in the margins of their limits, in margins and summed.

    A joint costs nothing in the range that the margins leave, 1 at its limit, and beyond it so
    much more as it is farther out.

    Args:
        episode: The episode.
        fields: Observation fields of the joints' positions.
        margin: Width of the margin inside the limits in the fields' units, one for each or one
            for all.
        low: Lower limits, one for each or one for all; the contract's bounds by default.
        high: Upper limits, likewise.

    Raises:
        ContractError: If a field does not exist or has no limits, or the margins meet.
    """
    joints = names("fields", fields)
    lower, upper = limits(episode, joints, low, high)
    widths = numbers("margin", margin, joints)
    for name, least, greatest, width in zip(joints, lower, upper, widths, strict=True):
        if not (np.isfinite(least) and np.isfinite(greatest)):
            raise ContractError(
                f"'{name}' has no limits; give 'low' and 'high' here, or bounds in the contract"
            )
        if not 0 < width <= (greatest - least) / 2:
            raise ContractError(
                f"the margin of '{name}' is {width:g}; it must be positive and at most half of "
                f"its range from {least:g} to {greatest:g}"
            )
    reached = episode.observation_fields(joints)[1:]
    depth = np.maximum(lower + widths - reached, reached - (upper - widths))
    penalties: NDArray[np.float64] = (np.maximum(depth, 0.0) / widths).sum(axis=1)
    return -penalties
