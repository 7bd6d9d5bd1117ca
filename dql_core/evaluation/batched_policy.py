"""The choice of actions for many observations at once, in one batch of all their candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dql_core.networks.action_sampler import ActionSampler
from dql_core.networks.critic import TwinCritic
from dql_core.normalize import Normalizer
from dql_core.runtime.choice import Choice
from dql_core.runtime.noise import Noise, draw_noise

# Below this spread all candidates count as equally good.
MIN_SPREAD = 1e-6


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
