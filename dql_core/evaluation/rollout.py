"""Rollouts of a policy in a Gymnasium environment that it fits, one by one or side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from dql_core.data.spaces import (
    flatten,
    make_environment,
    require_environment,
    unflatten_action,
    watched,
)
from dql_core.evaluation.statistics import Estimate, estimate_mean, estimate_rate
from dql_core.runtime.policy import Policy
from dql_core.sim import FAILURE_KEY
from dql_core.spec import PolicySpec

SUCCESS_KEY = "is_success"
MAX_ENVIRONMENTS = 64
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationResult:
    """Outcomes of E episodes in their order.

    Attributes:
        returns: Undiscounted return of each episode.
        lengths: Steps of each episode.
        successes: Whether each episode succeeded; empty if the environment does not say.
        failures: Of each episode that the simulation could not end properly, its number and why.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...]
    failures: tuple[str, ...] = ()

    @property
    def mean_return(self) -> Estimate:
        """Mean return and its confidence interval."""
        return estimate_mean(self.returns)

    @property
    def success_rate(self) -> Estimate | None:
        """Share of successes and its confidence interval; None if the environment says nothing."""
        return estimate_rate(self.successes) if self.successes else None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready summary."""
        summary: dict[str, Any] = {
            "episodes": len(self.returns),
            "mean_return": self.mean_return.mean,
            "std_return": float(np.std(self.returns)),
            "mean_return_ci95": self.mean_return.to_json()["ci95"],
            "mean_length": float(np.mean(self.lengths)),
        }
        if self.success_rate:
            summary["success_rate"] = self.success_rate.mean
            summary["success_rate_ci95"] = self.success_rate.to_json()["ci95"]
        return summary | {name: list(values) for name, values in vars(self).items() if values}


def evaluate(
    policy: Policy,
    env_id: str,
    episodes: int,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
    max_episode_steps: int | None = None,
) -> EvaluationResult:
    """Roll ``policy`` out; one of chunks carries each out to its end before it decides again.

    Episode i starts from ``env.reset(seed=seed + i)``; the policy's noise is one stream over all
    episodes, seeded by ``seed``. The policy node does the same, so equal seeds give equal runs.

    Args:
        policy: The policy.
        env_id: Gymnasium id, or ``module:id`` to import a module that registers it.
        episodes: Number of episodes, at least 1.
        seed: Seeds environment and policy.
        report: Called with the number of finished episodes after each.
        max_episode_steps: Truncate episodes after so many steps; by default after the
            environment's own limit.

    Raises:
        ConfigError: If there is no such environment.
        SpecMismatchError: If its spaces do not fit the policy.
    """
    env = make_environment(env_id, policy.spec, max_episode_steps)
    if env.spec is not None and env.spec.max_episode_steps is None:
        _logger.warning(
            "environment '%s' has no time limit of its own: if its episodes do not end, give one "
            "by --max-episode-steps",
            env_id,
        )
    rng = np.random.default_rng(seed)
    outcomes = []
    try:
        for index in range(episodes):
            outcomes.append(_episode(env, policy, seed + index, rng))
            if report:
                report(index + 1)
    finally:
        env.close()
    returns, lengths, successes, failures = zip(*outcomes, strict=True)
    known = tuple(success for success in successes if success is not None)
    return EvaluationResult(returns, lengths, known, numbered_failures(failures))


def numbered_failures(failures: Sequence[str], first: int = 0) -> tuple[str, ...]:
    """Return the failures of episodes, which are empty where there was none, with their numbers.

    Args:
        failures: Of each episode.
        first: Number of the first episode.
    """
    return tuple(
        f"episode {number}: {failure}" for number, failure in enumerate(failures, first) if failure
    )


def _episode(
    env: gym.Env[Any, Any], policy: Policy, seed: int, rng: np.random.Generator
) -> tuple[float, int, bool | None, str]:
    """Return the episode's return, its length, whether it succeeded, if known, and its failure."""
    observation, _ = env.reset(seed=seed)
    policy.reset()
    total, length, ended = 0.0, 0, False
    info: Mapping[str, Any] = {}
    planned: list[NDArray[np.float32]] = []
    while not ended:
        if not planned:
            decision = policy.act(flatten(env.observation_space, observation), rng)
            planned = list(decision.chunk)
        assert isinstance(env.action_space, Box)  # or it would not fit
        action = unflatten_action(env.action_space, planned.pop(0))
        observation, reward, terminated, truncated, info = env.step(action)
        total, length, ended = total + float(reward), length + 1, terminated or truncated
    # A node answers the last state too, not knowing that it is; the noise must go on alike.
    if not planned:
        policy.act(flatten(env.observation_space, observation), rng)
    success = info.get(SUCCESS_KEY)
    failure = str(info.get(FAILURE_KEY, ""))
    return total, length, None if success is None else bool(success), failure


class BatchPolicy(Protocol):
    """Samples actions for many observations at once."""

    def act_for_each(
        self, observations: NDArray[np.float32], rngs: Sequence[np.random.Generator]
    ) -> NDArray[np.float32]:
        """Sample an action for each of V raw observations: (V, O) -> (V, A), chunks (V, H, A).

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
            env_id,
            min(episodes, MAX_ENVIRONMENTS),
            vectorization_mode="sync",
            wrappers=(watched,),  # type: ignore[arg-type] # a function that may wrap
        )
        assert isinstance(self._envs.single_action_space, Box)  # or it would not fit
        self._action_space = self._envs.single_action_space
        self._episodes, self._seed = episodes, seed
        self._idle_action = (spec.action_low + spec.action_high) / 2

    def run(
        self, policy: BatchPolicy, stop: Callable[[], bool] = lambda: False
    ) -> EvaluationResult | None:
        """Roll a policy out as `evaluate` does.

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
        failures = [""] * len(episodes)
        rngs = [np.random.default_rng((self._seed, index)) for index in episodes]
        observations, _ = self._envs.reset(seed=self._seed + episodes[0])  # of the first one
        actions = np.tile(self._idle_action, (self._envs.num_envs, 1))
        running = list(range(len(episodes)))
        planned: dict[int, NDArray[np.float32]] = {}
        at = 0  # the step within the chunks, all of which begin together
        while running:
            if stop():
                return None
            if at == 0:
                flat = flatten(self._envs.single_observation_space, observations, batch_dims=1)
                chosen = policy.act_for_each(flat[running], [rngs[slot] for slot in running])
                chunks = chosen.reshape(len(running), -1, actions.shape[1])
                planned = dict(zip(running, chunks, strict=True))
            actions[running] = [planned[slot][at] for slot in running]
            at = (at + 1) % len(planned[running[0]])
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
            for slot in running:
                if ended[slot] and FAILURE_KEY in infos:
                    failures[slot] = str(infos[FAILURE_KEY][slot] or "")
            running = [slot for slot in running if not ended[slot]]
        succeeded = tuple(successes[slot] for slot in sorted(successes))
        return EvaluationResult(
            tuple(returns.tolist()),
            tuple(lengths.tolist()),
            succeeded,
            numbered_failures(failures, episodes[0]),
        )
