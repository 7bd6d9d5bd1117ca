"""Many episodes at once in a vectorised Gymnasium environment.

The choice of actions for many observations at once, in one batch of all their candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from dql_core.data.spaces import flatten, unflatten_action
from dql_core.evaluation.rollout import SUCCESS_KEY, EvaluationResult, require_environment
from dql_core.models.actors import ActionSampler
from dql_core.models.critic import TwinCritic
from dql_core.normalize import Normalizer
from dql_core.runtime.policy import Choice, Noise, draw_noise
from dql_core.spec import PolicySpec

MAX_ENVIRONMENTS = 64
# Below this spread all candidates count as equally good.
MIN_SPREAD = 1e-6


class ParallelRollouts:
    """The same E episodes for every policy, up to 64 of them side by side.

    Episode i starts from ``reset(seed=seed + i)``, and its noise comes from a generator of its
    own, seeded by ``(seed, i)``: what happens in it does not depend on the others.
    """

    def __init__(self, env_id: str, spec: PolicySpec, episodes: int, seed: int) -> None:
        """Make the environments.

        Args:
            env_id: Gymnasium id, or ``module:id`` to import a module that registers it.
            spec: What the policies take and give.
            episodes: Number of episodes, E.
            seed: Seeds the environments and the noise.

        Raises:
            ConfigError: If there is no such environment.
            SpecMismatchError: If its spaces do not fit the policies.
        """
        require_environment(env_id, spec)
        self._envs: VectorEnv[Any, Any, Any] = gym.make_vec(
            env_id, min(episodes, MAX_ENVIRONMENTS), vectorization_mode="sync"
        )
        assert isinstance(self._envs.single_action_space, Box)  # or it would not fit
        self._action_space = self._envs.single_action_space
        self._episodes, self._seed = episodes, seed
        self._idle_action = (spec.action_low + spec.action_high) / 2

    def run(
        self, policy: BatchedPolicy, stop: Callable[[], bool] = lambda: False
    ) -> EvaluationResult | None:
        """Roll a policy out.

        Args:
            policy: The policy.
            stop: Asked before every step whether to leave it.

        Returns:
            The outcomes in the order of the episodes; None if it was left.
        """
        outcomes: list[_Outcome] = []
        for first in range(0, self._episodes, self._envs.num_envs):
            count = min(self._envs.num_envs, self._episodes - first)
            wave = self._side_by_side(policy, range(first, first + count), stop)
            if wave is None:
                return None
            outcomes += wave
        return EvaluationResult(
            returns=tuple(outcome.total for outcome in outcomes),
            lengths=tuple(outcome.length for outcome in outcomes),
            successes=tuple(each.success for each in outcomes if each.success is not None),
        )

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def _side_by_side(
        self, policy: BatchedPolicy, episodes: range, stop: Callable[[], bool]
    ) -> list[_Outcome] | None:
        """Roll out as many episodes as there are environments, or fewer."""
        outcomes = [_Outcome() for _ in episodes]
        rngs = [np.random.default_rng((self._seed, index)) for index in episodes]
        observations, _ = self._envs.reset(seed=self._seed + episodes[0])  # of the first one
        actions = np.tile(self._idle_action, (self._envs.num_envs, 1))
        running = list(range(len(episodes)))
        while running:
            if stop():
                return None
            flat = flatten(self._envs.single_observation_space, observations, batch_dims=1)
            noises = [policy.draw_noise(rngs[slot]) for slot in running]
            actions[running] = policy.act(flat[running], noises)
            # An environment whose episode ended goes on with another one, which nobody looks at.
            observations, rewards, terminated, truncated, infos = self._envs.step(
                unflatten_action(self._action_space, actions)
            )
            ended = terminated | truncated
            for slot in running:
                outcomes[slot].add(float(rewards[slot]))
                if ended[slot]:
                    outcomes[slot].success = _success(infos, slot)
            running = [slot for slot in running if not ended[slot]]
        return outcomes


@dataclass
class _Outcome:
    """What came of an episode so far."""

    total: float = 0.0
    length: int = 0
    success: bool | None = None

    def add(self, reward: float) -> None:
        self.total += reward
        self.length += 1


def _success(infos: Mapping[str, Any], slot: int) -> bool | None:
    """Return whether an episode succeeded, if its last info says so."""
    told = infos.get(f"_{SUCCESS_KEY}")
    return bool(infos[SUCCESS_KEY][slot]) if told is not None and told[slot] else None


class BatchedPolicy:
    """Chooses for each of V observations as an exported policy chooses for one.

    Attributes:
        choice: How many candidates K it samples and how it chooses one.
    """

    def __init__(
        self,
        sampler: ActionSampler,
        critic: TwinCritic | None,
        normalizer: Normalizer,
        choice: Choice,
        *,
        temperature: float = 1.0,
        raw_temperature: bool = False,
        device: str = "cpu",
    ) -> None:
        """Assemble the function.

        Args:
            sampler: Samples the candidates.
            critic: Ranks them; without one the first is taken.
            normalizer: Units of the networks.
            choice: How many there are and how one is chosen.
            temperature: Of the softmax.
            raw_temperature: Leave the spread of Q out of the temperature.
            device: Where the networks are.
        """
        self.choice = choice
        self._sampler, self._critic = sampler, critic
        self._temperature, self._raw = temperature, raw_temperature
        self._device = device
        self._mean = self._tensor(normalizer.observation_mean)
        self._std = self._tensor(normalizer.observation_std)
        self._low = self._tensor(normalizer.action_low)
        self._high = self._tensor(normalizer.action_high)

    def draw_noise(self, rng: np.random.Generator) -> Noise:
        """Draw what one decision for one observation needs at random."""
        shape = (self._sampler.num_noises, self.choice.num_candidates, len(self._low))
        return draw_noise(rng, shape, self.choice.selection)

    @torch.no_grad()
    def act(
        self, observations: NDArray[np.float32], noises: Sequence[Noise]
    ) -> NDArray[np.float32]:
        """Choose an action for each observation.

        Args:
            observations: Raw observations, shape (V, O).
            noises: The noise of each, as `draw_noise` returns it.

        Returns:
            Actions in their own units and within their bounds, shape (V, A).
        """
        steps = np.stack([noise.steps for noise in noises], axis=1)  # (S, V, K, A)
        gumbel = self._tensor(np.stack([noise.selection for noise in noises]))  # (V, K)
        normalized = (self._tensor(observations) - self._mean) / self._std
        repeated = normalized.repeat_interleave(self.choice.num_candidates, dim=0)  # (V * K, O)
        sampled = self._sampler(repeated, self._tensor(steps).flatten(1, 2))  # (V * K, A)
        chosen = (self._scores(repeated, sampled, gumbel.shape) + gumbel).argmax(dim=1)
        first = torch.arange(0, len(sampled), self.choice.num_candidates, device=self._device)
        action = sampled[first + chosen]
        restored: NDArray[np.float32] = self._restore(action).cpu().numpy()
        return restored

    def _scores(self, observation: Tensor, sampled: Tensor, shape: torch.Size) -> Tensor:
        """Logits of the choice, shape (V, K)."""
        if self._critic is None:
            return torch.zeros(shape, device=self._device)
        values: Tensor = self._critic(observation, sampled)  # (E, V * K)
        q_values = values.amin(dim=0).reshape(shape)
        advantages = (q_values - q_values.amax(dim=1, keepdim=True)) / self._temperature
        if self._raw:
            return advantages
        spread = q_values.std(dim=1, correction=0, keepdim=True)
        return advantages / spread.clamp(min=MIN_SPREAD)

    def _restore(self, action: Tensor) -> Tensor:
        restored = action * ((self._high - self._low) * 0.5) + (self._high + self._low) * 0.5
        return restored.clamp(self._low, self._high)

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.tensor(array, device=self._device)
