"""Diffusion-BC: the same diffusion policy, imitating the data and nothing more."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dql_core.algo.generative_agent import GenerativeAgent
from dql_core.algo.noise import UpdateNoise
from dql_core.data.transitions import Batch


@dataclass(frozen=True)
class BCLosses:
    """What an update minimised, scalars on the device; names become metrics.

    Attributes:
        imitation: Behaviour cloning, L_d.
    """

    imitation: Tensor


class DiffusionBC(GenerativeAgent[BCLosses]):
    """A diffusion policy trained by behaviour cloning."""

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> BCLosses:
        """Improve the policy, then let its average follow."""
        with self.execution.precision():
            loss = self.imitation_loss(batch, noise)
        self.optimizers["policy"].step(loss)
        self._average.move()
        return BCLosses(imitation=loss.detach())
