"""The bundled functions over an episode: rewards, and predicates for its end.

Each returns one value for each action, of what it led to. Their arguments come from a yaml file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.spec import LoggedEpisode, field_indices

Numbers = float | Sequence[float]
NamesOrNumbers = Sequence[str | float]


def distance_to_goal(
    episode: LoggedEpisode, *, position: Sequence[str], goal: NamesOrNumbers
) -> NDArray[np.float64]:
    """Minus the Euclidean distance to the goal, in the fields' unit.

    Args:
        episode: The episode.
        position: Observation fields of the robot's position.
        goal: Observation fields of the goal's in the same order; a number is a fixed coordinate.

    Raises:
        ContractError: If a field does not exist, or the two differ in number.
    """
    return -_distances(episode, position, goal)


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
    chosen = known if fields is None else _names("fields", fields)
    squares: NDArray[np.float64] = episode.action_fields(chosen) ** 2
    return -(squares @ _numbers("weights", weights, chosen))


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
        position: As in `within_distance`.
        goal: As in `within_distance`.
        radius: As in `within_distance`.
        bonus: The reward.
        once: For the first step that reaches the goal, rather than for each step that is there
            afterwards.

    Raises:
        ContractError: If a field does not exist, or an argument is out of its range.
    """
    within = within_distance(episode, position=position, goal=goal, radius=radius)
    if once:
        within &= np.cumsum(within) == 1
    return within.astype(np.float64) * _number("bonus", bonus)


def outcome(
    episode: LoggedEpisode, *, success: float = 1.0, failure: float = 0.0
) -> NDArray[np.float64]:
    """A reward for the last step alone, by what is known of the outcome; 0 where nothing is.

    That is what a person said while it was recorded (``outcomes`` of the contract), and of a
    dataset its ``infos/success``.

    Args:
        episode: The episode.
        success: Reward of a success.
        failure: Reward of a failure.

    Raises:
        ContractError: If an argument is no finite number.
    """
    earned = {True: _number("success", success), False: _number("failure", failure), None: 0.0}
    rewards = np.zeros(len(episode))
    rewards[-1:] = earned[episode.success]
    return rewards


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
    joints = _names("fields", fields)
    lower, upper = _limits(episode, joints, low, high)
    widths = _numbers("margin", margin, joints)
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


def within_distance(
    episode: LoggedEpisode, *, position: Sequence[str], goal: NamesOrNumbers, radius: float
) -> NDArray[np.bool_]:
    """Whether the goal is reached.

    Args:
        episode: The episode.
        position: As in `distance_to_goal`.
        goal: As in `distance_to_goal`.
        radius: The goal is reached at a distance of at most so much, in the fields' unit.

    Raises:
        ContractError: If a field does not exist, or the radius is not positive.
    """
    least = _number("radius", radius, positive=True)
    reached: NDArray[np.bool_] = _distances(episode, position, goal) <= least
    return reached


def outside_bounds(
    episode: LoggedEpisode,
    *,
    fields: Sequence[str],
    low: Numbers | None = None,
    high: Numbers | None = None,
) -> NDArray[np.bool_]:
    """Whether any of some observation fields is beyond its limits; NaN is beyond any.

    Args:
        episode: The episode.
        fields: Observation fields.
        low: Lower limits, one for each or one for all; the contract's bounds by default.
        high: Upper limits, likewise.

    Raises:
        ContractError: If a field does not exist or has no limit on either side.
    """
    chosen = _names("fields", fields)
    lower, upper = _limits(episode, chosen, low, high)
    for name, least, greatest in zip(chosen, lower, upper, strict=True):
        if np.isinf(least) and np.isinf(greatest):
            raise ContractError(
                f"'{name}' has no limits; give 'low' or 'high' here, or bounds in the contract"
            )
    reached = episode.observation_fields(chosen)[1:]
    outside: NDArray[np.bool_] = ~((reached >= lower) & (reached <= upper))  # (T, n)
    anywhere: NDArray[np.bool_] = np.logical_or.reduce(outside, axis=1)
    return anywhere


def _number(key: str, value: object, *, positive: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = " (yaml takes 1e-2 for a text: write 0.01)" if isinstance(value, str) else ""
        raise ContractError(f"'{key}' is {value!r}, not a number{text}")
    if not math.isfinite(value) or (positive and value <= 0):
        raise ContractError(
            f"'{key}' is {value}; it must be {'positive' if positive else 'finite'}"
        )
    return float(value)


def _numbers(key: str, value: object, fields: Sequence[str]) -> NDArray[np.float64]:
    """Return one number for each field, shape (n,), from as many or from one for all."""
    if not isinstance(value, list | tuple):
        return np.full(len(fields), _number(key, value))
    if len(value) != len(fields):
        raise ContractError(
            f"'{key}' has {len(value)} numbers for {len(fields)} fields ({', '.join(fields)}); "
            f"give one for each, or one for all"
        )
    return np.array([_number(key, each) for each in value])


def _names(key: str, value: object) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ContractError(f"'{key}' is {value!r}; give a list of field names, such as [x, y]")
    if not value:
        raise ContractError(f"'{key}' is an empty list; name at least one field")
    return list(value)


def _distances(episode: LoggedEpisode, position: object, goal: object) -> NDArray[np.float64]:
    """Euclidean distance between position and goal after each action, shape (T,)."""
    here = _names("position", position)
    if not isinstance(goal, list | tuple):
        raise ContractError(
            f"'goal' is {goal!r}; give a list of observation fields or numbers, such as [0.5, 1.0]"
        )
    if len(here) != len(goal):
        raise ContractError(
            f"'position' names {len(here)} fields and 'goal' {len(goal)}; they must be as many"
        )
    there = [
        episode.observation(each) if isinstance(each, str) else _number("goal", each)
        for each in goal
    ]
    offsets = episode.observation_fields(here)  # a copy
    for column, coordinate in enumerate(there):
        offsets[:, column] -= coordinate
    distance: NDArray[np.float64] = np.linalg.norm(offsets, axis=1)[1:]
    return distance


def _limits(
    episode: LoggedEpisode, fields: Sequence[str], low: object, high: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper limits of observation fields, shape (n,) each; the spec's if not given."""
    indices = field_indices(episode.spec.observation, fields, "observation")
    lower, upper = (
        np.array([getattr(episode.spec.observation[index], key) for index in indices])
        if given is None
        else _numbers(key, given, fields)
        for key, given in (("low", low), ("high", high))
    )
    for name, least, greatest in zip(fields, lower, upper, strict=True):
        if not least < greatest:
            raise ContractError(
                f"the limits of '{name}' are {least:g} and {greatest:g}; the lower one must be "
                f"below the upper one"
            )
    return lower, upper
