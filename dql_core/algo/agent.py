"""What all algorithms have in common, and what training, checkpoints and export ask of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dql_core.algo.critics import Critics
from dql_core.algo.execution import Execution
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.actors import ActionSampler
from dql_core.models.critic import CriticEnsemble


class Losses(Protocol):
    """A frozen dataclass of scalar tensors, None where an algorithm as configured has none.

    That of an algorithm with critics has a ``q_magnitude``, too: the mean absolute action value.
    """

    @property
    def imitation(self) -> Tensor:
        """Behaviour cloning, which every agent does."""


def measured(losses: Losses) -> dict[str, Tensor]:
    """Return what an update measured, by the names of its metrics."""
    return {name: loss for name, loss in vars(losses).items() if loss is not None}


LossesT_co = TypeVar("LossesT_co", bound=Losses, covariant=True)


class BaseAgent(ABC, Generic[LossesT_co]):
    """An algorithm with all its state.

    Attributes:
        step: Updates taken so far.
        noise: Source of the updates' randomness.
        modules: Every network by name: all there is to save of them.
        optimizers: Every optimizer by name.
        critics: The action values; None if the algorithm learns none.
        execution: How its updates are run.
    """

    noise: NoiseSource
    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    critics: Critics | None = None

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.step = 0
        self.execution = Execution(config.run, device)
        self._config = config
        self._learn = self.execution.update(self._learn_from)

    @property
    @abstractmethod
    def acting_sampler(self) -> ActionSampler:
        """What acts after training."""

    @property
    @abstractmethod
    def target_sampler(self) -> ActionSampler:
        """What takes the next actions in the critics' targets."""

    @property
    def ranking_critic(self) -> CriticEnsemble | None:
        """The critics that rank candidates after training, if the algorithm has any."""
        return self.critics.ranking if self.critics else None

    def update(self, batch: Batch, noise: UpdateNoise | None = None) -> LossesT_co:
        """Learn from one batch.

        Of several processes each learns from its share of the batch, and all end alike.

        Args:
            batch: B transitions.
            noise: Everything random in the update; drawn from `noise` by default.
        """
        if noise is None:
            noise = self.noise.draw(len(batch.reward))
        self._schedule()
        ranks = self.execution.ranks
        rows = len(batch.reward)
        noise = ranks.share(noise, rows, time=0, imitation=0, policy=1, target=1)
        losses = self._learn(ranks.share(batch, rows, **dict.fromkeys(vars(batch), 0)), noise)
        self.step += 1
        return ranks.mean_fields(losses)

    @abstractmethod
    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Return what behaviour cloning minimises, a scalar, without learning."""

    def lone_imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor | None:
        """Return the same of a twin that only imitates; None where there is no twin."""
        return None

    @abstractmethod
    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> LossesT_co:
        """Update all networks: nothing but operations on tensors, so that it can be compiled."""

    def _schedule(self) -> None:
        """Set what depends on the step before the update number `step` (from 0)."""
        for optimizer in self.optimizers.values():
            optimizer.schedule(self.step)


Agent = BaseAgent[Losses]
