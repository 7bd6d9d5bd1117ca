"""Many episodes at once in a vectorised Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from dql_core.data.spaces import flatten, unflatten_action
from dql_core.evaluation.rollout import SUCCESS_KEY, EvaluationResult, require_environment
from dql_core.spec import PolicySpec

MAX_ENVIRONMENTS = 64


class BatchPolicy(Protocol):
    """Samples actions for many observations at once."""

    def act_for_each(
        self, observations: NDArray[np.float32], rngs: Sequence[np.random.Generator]
    ) -> NDArray[np.float32]:
        """Sample an action for each of V raw observations, (V, O) -> (V, A).

        All randomness of the action i comes from ``rngs[i]``.
        """


class ParallelRollouts:
    """The same episodes for every policy, up to 64 of them side by side.

    Episode i starts from ``reset(seed=seed + i)``, and its noise comes from a generator of its
    own, seeded by ``(seed, i)``: what happens in it does not depend on the others.

    Args:
        env_id: Gymnasium id, or ``module:id`` to import a module that registers it.
        spec: What the policies take and give.
        episodes: Number of episodes.
        seed: Seeds the environments and the noise.

    Raises:
        ConfigError: If there is no such environment.
        SpecMismatchError: If its spaces do not fit the policies.
    """

    def __init__(self, env_id: str, spec: PolicySpec, episodes: int, seed: int) -> None:
        require_environment(env_id, spec)
        self._envs: VectorEnv[Any, Any, Any] = gym.make_vec(
            env_id, min(episodes, MAX_ENVIRONMENTS), vectorization_mode="sync"
        )
        assert isinstance(self._envs.single_action_space, Box)  # or it would not fit
        self._action_space = self._envs.single_action_space
        self._episodes, self._seed = episodes, seed
        self._idle_action = (spec.action_low + spec.action_high) / 2

    def run(
        self, policy: BatchPolicy, stop: Callable[[], bool] = lambda: False
    ) -> EvaluationResult | None:
        """Roll a policy out.

        Args:
            policy: The policy.
            stop: Asked before every step whether to leave it.

        Returns:
            The outcomes in the order of the episodes; None if it was left.
        """
        results: list[EvaluationResult] = []
        for first in range(0, self._episodes, self._envs.num_envs):
            count = min(self._envs.num_envs, self._episodes - first)
            result = self._side_by_side(policy, range(first, first + count), stop)
            if result is None:
                return None
            results.append(result)
        columns = zip(*(vars(each).values() for each in results), strict=True)
        return EvaluationResult(*(tuple(chain(*column)) for column in columns))

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def _side_by_side(
        self, policy: BatchPolicy, episodes: range, stop: Callable[[], bool]
    ) -> EvaluationResult | None:
        """Roll out as many episodes as there are environments, or fewer."""
        returns, lengths = np.zeros(len(episodes)), np.zeros(len(episodes), dtype=int)
        successes: dict[int, bool] = {}
        rngs = [np.random.default_rng((self._seed, index)) for index in episodes]
        observations, _ = self._envs.reset(seed=self._seed + episodes[0])  # of the first one
        actions = np.tile(self._idle_action, (self._envs.num_envs, 1))
        running = list(range(len(episodes)))
        while running:
            if stop():
                return None
            flat = flatten(self._envs.single_observation_space, observations, batch_dims=1)
            actions[running] = policy.act_for_each(flat[running], [rngs[slot] for slot in running])
            # An environment whose episode ended goes on with another one, which nobody looks at.
            observations, rewards, terminated, truncated, infos = self._envs.step(
                unflatten_action(self._action_space, actions)
            )
            returns[running] += rewards[running]
            lengths[running] += 1
            ended = terminated | truncated
            reported = infos.get(f"_{SUCCESS_KEY}", np.zeros_like(ended)) & ended
            successes |= {
                slot: bool(infos[SUCCESS_KEY][slot]) for slot in running if reported[slot]
            }
            running = [slot for slot in running if not ended[slot]]
        succeeded = tuple(successes[slot] for slot in sorted(successes))
        return EvaluationResult(tuple(returns.tolist()), tuple(lengths.tolist()), succeeded)
