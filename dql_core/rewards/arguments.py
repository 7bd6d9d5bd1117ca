"""What the bundled functions accept as arguments, which come from a yaml file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError
from dql_core.rewards.episode import LoggedEpisode, field_indices

Numbers = float | Sequence[float]
NamesOrNumbers = Sequence[str | float]


def number(key: str, value: object, *, positive: bool = False) -> float:
    """Return a finite number.

    Raises:
        ContractError: If ``value`` is none, or must be positive and is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = " (yaml takes 1e-2 for a text: write 0.01)" if isinstance(value, str) else ""
        raise ContractError(f"'{key}' is {value!r}, not a number{text}")
    if not math.isfinite(value) or (positive and value <= 0):
        raise ContractError(
            f"'{key}' is {value}; it must be {'positive' if positive else 'finite'}"
        )
    return float(value)


def numbers(key: str, value: object, fields: Sequence[str]) -> NDArray[np.float64]:
    """Return one number for each field, shape (n,), from as many or from one for all.

    Raises:
        ContractError: If there are neither as many nor one.
    """
    if not isinstance(value, list | tuple):
        return np.full(len(fields), number(key, value))
    if len(value) != len(fields):
        raise ContractError(
            f"'{key}' has {len(value)} numbers for {len(fields)} fields ({', '.join(fields)}); "
            f"give one for each, or one for all"
        )
    return np.array([number(key, each) for each in value])


def names(key: str, value: object) -> list[str]:
    """Return a list of names.

    Raises:
        ContractError: If ``value`` is no list of texts, or an empty one.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ContractError(f"'{key}' is {value!r}; give a list of field names, such as [x, y]")
    if not value:
        raise ContractError(f"'{key}' is an empty list; name at least one field")
    return list(value)


def distances(episode: LoggedEpisode, position: object, goal: object) -> NDArray[np.float64]:
    """Euclidean distance between a position and a goal at each observation, shape (T + 1,).

    Args:
        episode: The episode.
        position: Observation fields of the robot's position.
        goal: Observation fields of the goal's in the same order; a number is a fixed coordinate.

    Raises:
        ContractError: If a field does not exist, or the two differ in number.
    """
    here = names("position", position)
    if not isinstance(goal, list | tuple):
        raise ContractError(
            f"'goal' is {goal!r}; give a list of observation fields or numbers, such as [0.5, 1.0]"
        )
    if len(here) != len(goal):
        raise ContractError(
            f"'position' names {len(here)} fields and 'goal' {len(goal)}; they must be as many"
        )
    there = [
        episode.observation(each) if isinstance(each, str) else number("goal", each)
        for each in goal
    ]
    offsets = episode.observation_fields(here)  # a copy
    for column, coordinate in enumerate(there):
        offsets[:, column] -= coordinate
    distance: NDArray[np.float64] = np.linalg.norm(offsets, axis=1)
    return distance


def limits(
    episode: LoggedEpisode, fields: Sequence[str], low: object, high: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper limits of observation fields, shape (n,) each.

    Args:
        episode: Its spec has the bounds that count where none are given.
        fields: Observation fields.
        low: None, one number for all, or one for each; in the fields' units.
        high: Likewise.

    Raises:
        ContractError: If a field does not exist, or a lower limit is not below the upper one.
    """
    indices = field_indices(episode.spec.observation, fields, "observation")
    specs = [episode.spec.observation[index] for index in indices]
    lower = np.array([spec.low for spec in specs]) if low is None else numbers("low", low, fields)
    upper = (
        np.array([spec.high for spec in specs]) if high is None else numbers("high", high, fields)
    )
    for name, least, greatest in zip(fields, lower, upper, strict=True):
        if not least < greatest:
            raise ContractError(
                f"the limits of '{name}' are {least:g} and {greatest:g}; the lower one must be "
                f"below the upper one"
            )
    return lower, upper
