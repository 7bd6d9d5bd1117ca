"""All randomness of one update, drawn before it: an update is then a pure function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class UpdateNoise:
    """What an update needs at random.

    Attributes:
        step: Diffusion step of each row's imitation loss, integer, shape (B,).
        imitation: Noise put into the data's actions, shape (B, A).
        policy: Noise of the policy's reverse chain, shape (Z, B, A).
        target: Noise of the target policy's reverse chain, shape (Z, B * S, A); each row has
            S next actions.
        guide: Index of the critic that guides the policy, shape ().
    """

    step: Tensor
    imitation: Tensor
    policy: Tensor
    target: Tensor
    guide: Tensor


@dataclass(frozen=True)
class NoiseSource:
    """Draws the noise of updates; its generator's state is all there is to resume from.

    Attributes:
        generator: Source of all randomness of the updates, on the networks' device.
        num_diffusion_steps: N.
        num_noises: Draws that a reverse chain needs for each action dimension, Z.
        action_size: A.
        num_target_samples: S.
    """

    generator: torch.Generator
    num_diffusion_steps: int
    num_noises: int
    action_size: int
    num_target_samples: int

    def draw(self, batch_size: int) -> UpdateNoise:
        """Draw the noise of one update of ``batch_size`` rows."""
        z, a = self.num_noises, self.action_size
        return UpdateNoise(
            step=self._integers(self.num_diffusion_steps, (batch_size,)),
            imitation=self._normal((batch_size, a)),
            policy=self._normal((z, batch_size, a)),
            target=self._normal((z, batch_size * self.num_target_samples, a)),
            guide=self._integers(2, ()),
        )

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device)

    def _integers(self, end: int, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return torch.randint(end, shape, generator=self.generator, device=device)
