"""Diffusion-BC: the same diffusion policy, imitating the data and nothing more."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dql_core.algo.diffusion_policy import DiffusionAgent
from dql_core.algo.noise import UpdateNoise
from dql_core.data.transitions import Batch


@dataclass(frozen=True)
class BCLosses:
    """What an update minimised, scalars on the device; names become metrics.

    Attributes:
        imitation: Behaviour cloning, L_d.
    """

    imitation: Tensor


class DiffusionBC(DiffusionAgent[BCLosses]):
    """A diffusion policy trained by behaviour cloning."""

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> BCLosses:
        """Improve the policy, then let its average follow."""
        with self.execution.precision():
            imitation = self.policy.imitate(batch, noise)
        self.optimizers["policy"].step(imitation.loss)
        self._average.move()
        return BCLosses(imitation=imitation.loss.detach())
