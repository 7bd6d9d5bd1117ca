"""Angles that wrap around: steps of nearly a full turn, and one heading is two far numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import counted
from dql_core.spec import FieldSpec
from dql_core.strict_yaml import StrictModel
from dql_ros.contract.units import half_turn

# So near, as a share of a turn, a step less the turn is to what the field does before or after it.
SLACK = 0.01
# What moves by more than this share of a turn in a step, and not by nearly a turn, moves so fast,
# or so freely, that steps before and after say nothing of where it wraps around.
FASTEST = 0.25
# So many steps on either side say what the field does, and so many whether it moves fast.
NEIGHBOURS = 2
NEARBY = 8


class TurnRow(StrictModel):
    """A field that steps by full turns.

    Attributes:
        name: Its name.
        steps: How many such steps there are.
        episodes: In how many episodes.
    """

    name: str
    steps: int
    episodes: int


class FullTurns:
    """Counts the steps by full turns of a vector's fields, episode by episode.

    Only fields whose unit is an angle are looked at; of what was, the newest value alone.

    Args:
        specs: The fields.
    """

    def __init__(self, specs: Sequence[FieldSpec]) -> None:
        self._names = [spec.name for spec in specs]
        self._turns = np.array([_full_turn(spec) for spec in specs])
        self._steps: Counter[str] = Counter()
        self._episodes: Counter[str] = Counter()

    def add(self, values: NDArray[np.float64]) -> None:
        """Take an episode's values, finite, shape (n, F)."""
        for column in np.flatnonzero(np.isfinite(self._turns)).tolist():
            steps = full_turn_steps(values[:, column], self._turns[column])
            if steps:
                self._steps[self._names[column]] += steps
                self._episodes[self._names[column]] += 1

    def rows(self) -> tuple[TurnRow, ...]:
        """Return a row for each field that has such steps."""
        return tuple(
            TurnRow(name=name, steps=steps, episodes=self._episodes[name])
            for name, steps in self._steps.items()
        )


def full_turn_steps(values: NDArray[np.float64], turn: float) -> int:
    """Count the steps of an angle that wraps around, which are no movement.

    They are nearly a full turn, and without it what the steps before and after are, whether or not
    values are held for several instants. What spans more than a turn counts on, and does not begin
    anew; where it moves fast, nothing is counted.

    Args:
        values: An angle from instant to instant, shape (n,).
        turn: A full turn in its unit.
    """
    if not len(values) or float(values.max()) - float(values.min()) > (1 + SLACK) * turn:
        return 0
    steps = np.diff(values)
    steps = steps[steps != 0.0]
    rest = steps - np.copysign(turn, steps)
    is_quiet = np.abs(steps) <= FASTEST * turn
    if is_quiet.all():
        return 0
    around = _windows(np.where(is_quiet, steps, np.nan), NEIGHBOURS)
    low, high = np.fmin.reduce(around, axis=1), np.fmax.reduce(around, axis=1)
    low, high = np.nan_to_num(low), np.nan_to_num(high)  # alone, it is a turn and nothing else
    is_in_line = (low - SLACK * turn <= rest) & (rest <= high + SLACK * turn)
    is_fast = ~is_quiet & (np.abs(rest) > FASTEST * turn)
    is_near_fast = (_windows(is_fast, NEARBY) == 1).any(axis=1)
    return int((~is_quiet & ~is_near_fast & is_in_line).sum())


def turned(
    parts: Sequence[Sequence[TurnRow]], specs: Sequence[FieldSpec], *, are_observed: bool
) -> Iterator[str]:
    """Yield a sentence, without a full stop, for each field that steps by full turns.

    Args:
        parts: The rows of each bag.
        specs: The fields.
        are_observed: Whether they are observed, or commanded.
    """
    rows = [row for part in parts for row in part]
    for spec in specs:
        found = [row for row in rows if row.name == spec.name]
        if not found:
            continue
        times = counted(sum(row.steps for row in found), "time")
        where = counted(sum(row.episodes for row in found), "episode")
        remedy = "command its rate, or a quaternion with 'rotation: 6d', if the robot can"
        if are_observed:
            is_yaw = (spec.source or {}).get("rotation") == "yaw"
            remedy = f"set 'rotation: {'6d' if is_yaw else 'cos_sin'}' for it in the contract"
        yield (
            f"{spec.name} jumps by a full turn in one step, {times} in {where}, as an angle does "
            f"that wraps around: one heading is two numbers far apart; {remedy}"
        )


def _windows(values: NDArray[np.generic], reach: int) -> NDArray[np.float64]:
    """Each value between so many before and after it, NaN where there are none."""
    padded = np.pad(np.asarray(values, np.float64), reach, constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)


def _full_turn(spec: FieldSpec) -> float:
    """A full turn in a field's unit; infinite if it is no angle, or of an earlier instant."""
    if not {"ago_s", "periods_ago"} & (spec.source or {}).keys():
        with suppress(ValueError):
            return 2 * half_turn(spec.unit)
    return float("inf")
