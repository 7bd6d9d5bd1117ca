"""Episodes of the demo robot in process, and which way round the post each of them went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from dql_core.data.dataset import Episode, write_dataset
from dql_core.evaluation.rollout import ParallelRollouts
from dql_core.evaluation.statistics import Estimate, estimate_mean, estimate_rate
from dql_core.sim import SCARA_ID
from dql_core.sim.scara import Way
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_core.training.checkpoint import Checkpoint
from dql_ros.config_files import installed_config
from dql_ros.contract import load_contract

_LOGGED_ID = "benchmarks/ScaraReachWays-v0"


@dataclass(frozen=True)
class Episodes:
    """What came of E episodes, in their order.

    Attributes:
        returns: Undiscounted return of each.
        successes: Whether each succeeded.
        ways: On which side of the post each passed it; None if it did not.
    """

    returns: tuple[float, ...]
    successes: tuple[bool, ...]
    ways: tuple[Way | None, ...]

    @property
    def success_rate(self) -> Estimate:
        """Share of successes with its Wilson interval."""
        return estimate_rate(self.successes)

    @property
    def mean_return(self) -> Estimate:
        """Mean return with its Student interval."""
        return estimate_mean(self.returns)

    def successes_by(self, way: Way) -> float:
        """Share of the successful episodes that went one way; 0 if none succeeded."""
        ways = [its for its, good in zip(self.ways, self.successes, strict=True) if good]
        return ways.count(way) / len(ways) if ways else 0.0


class WayLog(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Notes the way of each episode that was started with a seed, by that seed."""

    def __init__(self, env: gymnasium.Env[Any, Any], ways: dict[int, Way | None]) -> None:
        super().__init__(env)
        self._ways = ways
        self._seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._seed = seed
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Go one step on."""
        observation, reward, terminated, truncated, info = super().step(action)
        if self._seed is not None and (terminated or truncated):
            self._ways[self._seed] = info["way"]
        return observation, reward, terminated, truncated, info


def demonstrate(dataset: Path, seed: int, count: int) -> Episodes:
    """Let the scripted operator drive and write the dataset; episode i starts from ``seed + i``.

    In process, which gives the episodes that lockstep over ROS 2 gives.
    """
    spec = load_contract(installed_config("contracts/scara.yaml")).policy_spec()
    env, operator = gymnasium.make(SCARA_ID), ScaraDemonstrator(spec)
    rng = np.random.default_rng(seed)
    episodes: list[Episode] = []
    successes: list[bool] = []
    ways: list[Way | None] = []
    for index in range(count):
        observation, _ = env.reset(seed=seed + index)
        operator.reset()
        observations, actions, rewards = [observation.astype(np.float32)], [], []
        terminated = truncated = False
        while not (terminated or truncated):
            actions.append(operator.act(observations[-1], rng).action)
            observation, reward, terminated, truncated, info = env.step(
                actions[-1].astype(np.float64)
            )
            observations.append(observation.astype(np.float32))
            rewards.append(float(reward))
        successes.append(bool(info["is_success"]))
        ways.append(info["way"])
        episodes.append(
            Episode(
                np.array(observations), np.array(actions), np.array(rewards), terminated, truncated
            )
        )
    write_dataset(dataset, episodes, spec)
    returns = tuple(float(episode.rewards.sum()) for episode in episodes)
    return Episodes(returns, tuple(successes), tuple(ways))


def drive(run: Checkpoint, seed: int, count: int) -> Episodes:
    """Roll a trained policy out; episode i starts from ``seed + i``."""
    ways: dict[int, Way | None] = {}
    gymnasium.register(
        _LOGGED_ID, entry_point=lambda **settings: WayLog(gymnasium.make(SCARA_ID), ways)
    )
    episodes = ParallelRollouts(_LOGGED_ID, run.spec, count, seed)
    try:
        result = episodes.run(run.policy())
    finally:
        episodes.close()
        del gymnasium.registry[_LOGGED_ID]
    assert result is not None  # since nothing stops it
    return Episodes(
        result.returns, result.successes, tuple(ways[seed + index] for index in range(count))
    )
