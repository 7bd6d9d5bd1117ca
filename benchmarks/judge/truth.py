"""What policies really earn, by rollouts, and what the recorded behaviour earned."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from dql_core.data.dataset import Episode
from dql_core.data.reward_transforms import discounted_returns
from dql_core.data.spaces import make_env
from dql_core.evaluation.rollout import BatchPolicy, ParallelRollouts
from dql_core.spec import PolicySpec

ROLLOUT_SEED = 10_000
# What comes after so many steps that it weighs less than this is left out.
LEFT_OUT = 1e-3
_LOGGED_ID = "benchmarks/Judged-v0"
_REMEDY = "install what the set needs"


@dataclass(frozen=True)
class Truth:
    """What a policy earned.

    Attributes:
        returns: Of each episode up to the environment's own time limit, undiscounted.
        discounted: Of each episode with the discount, as if there were no time limit: the
            judge's values do not end with one either.
    """

    returns: tuple[float, ...]
    discounted: tuple[float, ...]


class RewardLog(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Notes the rewards of each episode that was started with a seed, by that seed."""

    def __init__(self, env: gymnasium.Env[Any, Any], rewards: dict[int, list[float]]) -> None:
        super().__init__(env)
        self._rewards = rewards
        self._own: list[float] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._own = []
        if seed is not None:
            self._rewards[seed] = self._own
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Go one step on."""
        observation, reward, terminated, truncated, info = super().step(action)
        self._own.append(float(reward))
        return observation, reward, terminated, truncated, info


def roll_out(
    policy: BatchPolicy, env_id: str, spec: PolicySpec, discount: float, episodes: int
) -> Truth:
    """Let a policy act; episode i starts from ``reset(seed=10000 + i)`` for every policy.

    Args:
        policy: The policy.
        env_id: Gymnasium id, or ``module:id``.
        spec: What the policy takes and gives.
        discount: Below 1.
        episodes: How many.

    Raises:
        ConfigError: If there is no such environment.
    """
    own = make_env(env_id, _REMEDY)
    limit = own.spec.max_episode_steps if own.spec else None
    own.close()
    steps = max(limit or 0, _steps(discount))
    rewards: dict[int, list[float]] = {}
    gymnasium.register(
        _LOGGED_ID, entry_point=lambda **_: RewardLog(make_env(env_id, _REMEDY, steps), rewards)
    )
    rollouts = ParallelRollouts(_LOGGED_ID, spec, episodes, ROLLOUT_SEED)
    try:
        rollouts.run(policy)
    finally:
        rollouts.close()
        del gymnasium.registry[_LOGGED_ID]
    logged = [np.array(rewards[ROLLOUT_SEED + index]) for index in range(episodes)]
    return Truth(
        tuple(float(each[:limit].sum()) for each in logged),
        tuple(float(discounted_returns(each, discount)[0]) for each in logged),
    )


def recorded_return(episodes: Iterable[Episode], discount: float) -> tuple[float, ...]:
    """Return what each recorded episode earned, discounted.

    One that was truncated is taken to go on with its last reward for ever.
    """
    found = []
    for episode in episodes:
        rewards = np.asarray(episode.rewards, dtype=np.float64)
        value = float(discounted_returns(rewards, discount)[0])
        if not episode.terminated:
            value += discount ** len(rewards) * float(rewards[-1]) / (1.0 - discount)
        found.append(value)
    return tuple(found)


def _steps(discount: float) -> int:
    return math.ceil(math.log(LEFT_OUT) / math.log(discount)) if discount > 0 else 1
