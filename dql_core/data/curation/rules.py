"""Which episodes of a dataset are selected: by number, outcome, return, length, intervention."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dql_core.data.infos import INTERVENTION, SUCCESS, last_of, of_steps
from dql_core.errors import ConfigError, DatasetError

if TYPE_CHECKING:  # rules are made of options, before anything is read
    from dql_core.data.episode_reader import StoredEpisode

# Infos by which episodes are chosen where a dataset has them.
CHOSEN_BY = (SUCCESS, INTERVENTION)
Outcome = Literal["success", "failure", "unlabelled", "terminated", "truncated"]
OF_LABELS: tuple[Outcome, ...] = ("success", "failure", "unlabelled")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@dataclass(frozen=True)
class EpisodeFacts:
    """What rules go by, of one episode.

    Attributes:
        number: Its place in the dataset, from 0.
        length: Number of transitions.
        earned: Sum of its rewards, without discount.
        terminated: Whether the task itself ended.
        success: Last value of its info ``success``; ``None`` where it has none, or no number.
        intervention: Share of the steps in which its info ``intervention`` is not 0; ``None``
            where it has none.
    """

    number: int
    length: int
    earned: float
    terminated: bool
    success: bool | None
    intervention: float | None

    @classmethod
    def of(cls, stored: StoredEpisode) -> EpisodeFacts:
        """Read the facts off an episode."""
        with np.errstate(over="ignore", invalid="ignore"):  # a return may be no number
            earned = float(stored.rewards.sum(dtype=np.float64))
        return cls(
            number=stored.index,
            length=len(stored.rewards),
            earned=earned,
            terminated=stored.episode.terminated,
            success=last_of(stored.infos.get(SUCCESS)),
            intervention=_share(stored.infos.get(INTERVENTION), len(stored.rewards)),
        )

    def is_of(self, outcome: Outcome) -> bool:
        """Whether the episode ended so."""
        return {
            "success": self.success is True,
            "failure": self.success is False,
            "unlabelled": self.success is None,
            "terminated": self.terminated,
            "truncated": not self.terminated,
        }[outcome]


def of_each_step(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Return one row a step of an info, which may also hold for the whole episode.

    Args:
        values: As stored.
        length: Number of steps, T.
    """
    rows = of_steps(values, length)
    return rows if rows.ndim and len(rows) == length else np.full(length, values.reshape(-1)[-1])


def _share(values: NDArray[Any] | None, length: int) -> float | None:
    if values is None or not values.size or not length:
        return None
    return float((of_each_step(values, length) != 0).mean())


@dataclass(frozen=True)
class Rules:
    """What an episode must be to be selected; all that are given must hold, limits included.

    Attributes:
        episodes: Numbers and ranges, as ``0-4,7``.
        outcome: How it ended.
        min_return: Of the sum of its rewards.
        max_return: Likewise.
        min_length: In transitions.
        max_length: Likewise.
        min_intervention: Of the share of its steps in which a person intervened.
        max_intervention: Likewise.

    Raises:
        ConfigError: If nothing can be selected by them.
    """

    episodes: str | None = None
    outcome: Outcome | None = None
    min_return: float | None = None
    max_return: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_intervention: float | None = None
    max_intervention: float | None = None

    def __post_init__(self) -> None:
        for what in ("return", "length", "intervention"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            for name, limit in ((f"--min-{what}", low), (f"--max-{what}", high)):
                if limit is not None and math.isnan(limit):
                    raise ConfigError(f"{name} is nan; give a number")
            if low is not None and high is not None and low > high:
                raise ConfigError(
                    f"--min-{what} {low:g} is above --max-{what} {high:g}: no episode is both"
                )
        self.numbers()

    def given(self) -> dict[str, Any]:
        """Return the rules that are given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def numbers(self) -> tuple[range, ...] | None:
        """Return the numbers of ``episodes``; ``None`` if it is not given."""
        return None if self.episodes is None else parse_numbers(self.episodes)

    def choose(self, episodes: Sequence[EpisodeFacts], where: str) -> list[int]:
        """Return the numbers of the episodes that are selected, in their order.

        Args:
            episodes: All of a dataset.
            where: The dataset's name, for messages.

        Raises:
            DatasetError: If a rule goes by an info that no episode has, or names an episode that
                does not exist.
        """
        self._require_infos(episodes, where)
        numbers = self.numbers()
        require_numbers(numbers or (), len(episodes), where)
        return [
            each.number
            for each in episodes
            if (numbers is None or is_named(each.number, numbers)) and self._are_met(each)
        ]

    def _require_infos(self, episodes: Sequence[EpisodeFacts], where: str) -> None:
        if self.outcome in OF_LABELS and all(each.success is None for each in episodes):
            raise DatasetError(
                f"{where}: no episode has the info '{SUCCESS}', by which --outcome "
                f"{self.outcome} goes; choose by --outcome terminated or truncated, or by "
                f"--min-return, or convert recordings whose outcome is labelled"
            )
        limits = {"--min-intervention": self.min_intervention}
        limits["--max-intervention"] = self.max_intervention
        asked = next((name for name, limit in limits.items() if limit is not None), None)
        if asked and all(each.intervention is None for each in episodes):
            raise DatasetError(
                f"{where}: no episode has the info '{INTERVENTION}', by which {asked} goes; "
                f"choose by --episode, or convert recordings that say who commanded"
            )

    def _are_met(self, facts: EpisodeFacts) -> bool:
        if self.outcome is not None and not facts.is_of(self.outcome):
            return False
        return (
            _is_within(facts.earned, self.min_return, self.max_return)
            and _is_within(facts.length, self.min_length, self.max_length)
            and _is_within(facts.intervention, self.min_intervention, self.max_intervention)
        )


def _is_within(value: float | None, low: float | None, high: float | None) -> bool:
    """Whether a value meets the limits that are given; one that is not known meets none."""
    if low is None and high is None:
        return True
    if value is None or math.isnan(value):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def parse_numbers(text: str) -> tuple[range, ...]:
    """Read numbers of episodes and ranges of them, as ``0-4,7``.

    Raises:
        ConfigError: If it is something else.
    """
    found = []
    for part in text.split(","):
        numbers = _RANGE.fullmatch(part.strip())
        first = int(numbers[1]) if numbers else 0
        last = int(numbers[2] or first) if numbers else -1
        if last < first:
            raise ConfigError(
                f"'{text:.80}' does not name episodes: '{part:.40}'; give numbers and ranges "
                f"between commas, such as 0-4,7"
            )
        found.append(range(first, last + 1))
    return tuple(found)


def is_named(number: int, numbers: Iterable[range]) -> bool:
    """Whether a number is in one of the ranges."""
    return any(number in each for each in numbers)


def require_numbers(numbers: Iterable[range], count: int, where: str) -> None:
    """Refuse numbers of episodes that a dataset has not got.

    Raises:
        DatasetError: Naming the first of them.
    """
    for each in numbers:
        if each.stop > count:
            raise DatasetError(
                f"{where}: has no episode {max(each.start, count)}, since there are {count:,}, "
                f"numbered from 0 to {count - 1}"
            )


def numbers_text(numbers: Iterable[int]) -> str:
    """Return numbers as `parse_numbers` reads them, runs of them as ranges."""
    runs = []
    for _, group in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(runs)
