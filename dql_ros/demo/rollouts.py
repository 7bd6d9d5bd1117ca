"""What a policy did with the robot: how its episodes ended, and the data recorded of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.errors import SimulationError
from dql_core.evaluation.statistics import Estimate, estimate_mean, estimate_rate
from dql_core.sim.scara import SUCCESS_RADIUS, Way, tip_position, way_past_post
from dql_ros.sim.result import EpisodeResult

Outcome = Literal["success", "collision", "timeout"]
OUTCOMES: tuple[Outcome, ...] = ("success", "collision", "timeout")
# Observation of the demo robot: joint angles first, target position last.
JOINTS, TARGET = slice(0, 2), slice(-2, None)


@dataclass(frozen=True)
class Rollouts:
    """The episodes that one policy drove.

    Attributes:
        key: The policy's name in files.
        label: The policy's name for people.
        results: What the simulation said of each episode.
        episodes: The same episodes as recorded over ROS 2 and converted.
    """

    key: str
    label: str
    results: tuple[EpisodeResult, ...]
    episodes: tuple[Episode, ...]

    @property
    def success_rate(self) -> Estimate:
        """Share of successes with its Wilson interval."""
        return estimate_rate([bool(result.success) for result in self.results])

    @property
    def mean_return(self) -> Estimate:
        """Mean undiscounted return with its Student interval."""
        return estimate_mean([result.return_ for result in self.results])

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """How each episode ended."""
        return tuple(outcome_of(episode) for episode in self.episodes)

    @property
    def paths(self) -> tuple[NDArray[np.float64], ...]:
        """Where the tool went in each episode: x and y in m, shapes (T + 1, 2)."""
        return tuple(tool_path(episode) for episode in self.episodes)

    @property
    def ways(self) -> Counter[Way | None]:
        """How many episodes passed the post on which side."""
        return Counter(way_of(path) for path in self.paths)


def outcome_of(episode: Episode) -> Outcome:
    """Say how a recorded episode ended: near the target, at the post, or out of time."""
    if not episode.terminated:
        return "timeout"
    last = episode.observations[-1].astype(np.float64)
    distance = float(np.linalg.norm(tip_position(last[JOINTS]) - last[TARGET]))
    # The post is many times as far away, so float32 positions cannot blur the difference.
    return "success" if distance < 2 * SUCCESS_RADIUS else "collision"


def tool_path(episode: Episode) -> NDArray[np.float64]:
    """Positions of the tool by the recorded joint angles, x and y in m, shape (T + 1, 2)."""
    return tip_position(episode.observations[:, JOINTS].astype(np.float64))


def way_of(path: NDArray[np.float64]) -> Way | None:
    """On which side of the post a path, shape (T + 1, 2), went; ``None`` if it did not pass."""
    for before, after in pairwise(path):
        way = way_past_post(before, after)
        if way is not None:
            return way
    return None


def require_same_episodes(
    results: Sequence[EpisodeResult], episodes: Sequence[Episode], what: str
) -> None:
    """Compare what the simulation said with what was recorded of it.

    Raises:
        SimulationError: If the recording has other episodes.
    """
    said = [(result.length, result.terminated) for result in results]
    recorded = [(len(episode), episode.terminated) for episode in episodes]
    if said != recorded:
        pairs = zip(said, recorded, strict=False)
        shorter = min(len(said), len(recorded))
        first = next((i for i, (mine, its) in enumerate(pairs) if mine != its), shorter)
        raise SimulationError(
            f"the recording of {what} has {len(recorded)} episodes and the simulation ran "
            f"{len(said)}; they differ from episode {first} on, so messages were lost: run again, "
            f"with nothing else on the machine"
        )
