"""The whole choice of an action as one pure function.

A policy that acts straight from a checkpoint, without an export.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dql_core.algo.agent import Agent
from dql_core.config import TrainConfig
from dql_core.models.actors import ActionSampler
from dql_core.models.critic import TwinCritic
from dql_core.normalize import Normalizer
from dql_core.runtime.policy import Choice, Decision, Noise, draw_noise, resolve_choice
from dql_core.spec import PolicySpec

# Below this spread all candidates count as equally good.
MIN_SPREAD = 1e-6


class PolicyGraph(nn.Module):
    r"""Normalise, sample K candidates, rank them by the smallest critic, choose, restore units.

    The choice is :math:`\arg\max_k \; (Q_k - \max_j Q_j) / (\tau \sigma) + g_k` with
    :math:`\sigma` the standard deviation of Q over the candidates. With Gumbel noise g this is a
    draw from a softmax whose temperature :math:`\tau` does not depend on the scale of rewards;
    with g = 0 it is the best candidate. As in the paper's code, :math:`\sigma = 1` takes the
    softmax of the raw Q.
    """

    observation_mean: Tensor
    observation_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        sampler: ActionSampler,
        critic: TwinCritic | None,
        normalizer: Normalizer,
        *,
        temperature: float,
        raw_temperature: bool = False,
    ) -> None:
        """Assemble the function.

        Args:
            sampler: Samples the candidates.
            critic: Ranks the candidates; without one the Q values are zeros.
            normalizer: Units of the networks.
            temperature: tau above.
            raw_temperature: Leave the spread of Q out of the temperature.
        """
        super().__init__()
        self.sampler = sampler
        self.critic = critic
        self.temperature = temperature
        self.raw_temperature = raw_temperature
        for name, values in vars(normalizer).items():
            self.register_buffer(name, torch.tensor(values))
        self.eval()

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Shape of the noise for a single candidate, (S, 1, A)."""
        return self.sampler.num_noises, 1, len(self.action_low)

    def forward(
        self, observation: Tensor, noise: Tensor, selection_noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose an action.

        Args:
            observation: Raw observation, shape (O,).
            noise: Standard normal, shape (S, K, A).
            selection_noise: Added to the candidates' scores, shape (K,).

        Returns:
            Action (A,) in its own units and within its bounds, Q values (K,), candidates (K, A).
        """
        # One row serves all candidates: what depends on it alone is computed once.
        normalized = ((observation - self.observation_mean) / self.observation_std)[None]
        sampled = self.sampler(normalized, noise)
        q_values = self._rank(normalized, sampled)
        candidates = self._restore(sampled)
        choice = (self.scores(q_values) + selection_noise).argmax(dim=0, keepdim=True)
        # Indexing by a tensor would read it on the host.
        return candidates.index_select(0, choice).squeeze(0), q_values, candidates

    def decide(self, observation: NDArray[np.float32], noise: Noise) -> Decision:
        """Choose an action for a raw observation, shape (O,), in numpy's arrays."""
        with torch.no_grad():
            outputs = self(*(torch.tensor(array) for array in (observation, *noise)))
        return Decision(*(output.numpy() for output in outputs))

    def scores(self, q_values: Tensor) -> Tensor:
        """Return the logits of the choice, shape (K,)."""
        advantages = (q_values - q_values.max()) / self.temperature
        if self.raw_temperature:
            return advantages
        spread = (q_values - q_values.mean()).square().mean().sqrt()
        return advantages / spread.clamp(min=MIN_SPREAD)

    def _rank(self, observation: Tensor, sampled: Tensor) -> Tensor:
        if self.critic is None:
            return torch.zeros_like(sampled[:, 0])
        repeated = observation.expand(sampled.shape[0], -1)
        values: Tensor = self.critic(repeated, sampled)  # (E, K)
        return values.amin(dim=0)

    def _restore(self, sampled: Tensor) -> Tensor:
        half_range = (self.action_high - self.action_low) * 0.5
        centre = (self.action_high + self.action_low) * 0.5
        # Rounding may step over the bounds by a bit.
        restored = sampled * half_range + centre
        return torch.minimum(torch.maximum(restored, self.action_low), self.action_high)


def policy_graph(agent: Agent, config: TrainConfig, normalizer: Normalizer) -> PolicyGraph:
    """Assemble the acting function of a trained agent; it shares the agent's weights."""
    return PolicyGraph(
        agent.acting_sampler,
        agent.ranking_critic,
        normalizer,
        temperature=config.selection.temperature,
        raw_temperature=config.selection.temperature_scale == "raw",
    )


def default_choice(agent: Agent, config: TrainConfig) -> Choice:
    """How a trained agent chooses unless the caller wants otherwise."""
    configured = Choice(config.selection.num_candidates, config.selection.rule)
    return resolve_choice(configured, agent.ranking_critic is not None)


class TorchPolicy:
    """Samples actions from an agent's own networks; keeps no state.

    Attributes:
        spec: What observation and action mean.
        choice: How many candidates it samples and how it chooses one.
    """

    def __init__(self, graph: PolicyGraph, spec: PolicySpec, choice: Choice) -> None:
        self.spec = spec
        self.choice = choice
        self._graph = graph

    def reset(self) -> None:
        """Begin a new episode; nothing is carried from one to the next."""

    def act(self, observation: NDArray[np.float32], rng: np.random.Generator) -> Decision:
        """Sample an action for a raw observation, shape (O,)."""
        steps, _, width = self._graph.noise_shape
        shape = (steps, self.choice.num_candidates, width)
        return self._graph.decide(observation, draw_noise(rng, shape, self.choice.selection))
