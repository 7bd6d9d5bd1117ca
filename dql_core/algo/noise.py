"""All that is random in a run: a seed for each use, and the noise of one update.

The noise is drawn before the update, which is then a pure function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RunSeeds:
    """Seeds that share no randomness, so that changing one use leaves the others as they were.

    Attributes:
        weights: Initial weights.
        batches: Choice of the batches.
        updates: Noise of the updates.
        held_out: Choice of the held-out episodes, and noise of what is measured on them.
    """

    weights: int
    batches: int
    updates: int
    held_out: int

    @classmethod
    def derive(cls, seed: int) -> RunSeeds:
        """Derive the streams of a run from its one seed."""
        # A new use goes to the end: then the seeds of the others stay as they were.
        return cls(*np.random.SeedSequence(seed).generate_state(4).tolist())


def make_generator(seed: int, device: str) -> torch.Generator:
    """Return a generator on ``device`` that starts at ``seed``."""
    return torch.Generator(device=device).manual_seed(seed)


@dataclass(frozen=True)
class UpdateNoise:
    """What an update needs at random.

    Attributes:
        step: Diffusion step of each row's imitation loss, integer, shape (B,).
        imitation: Noise put into the data's actions, shape (B, A).
        policy: Noise of the policy's reverse chain, shape (Z, B, A).
        target: Noise of the target policy's reverse chain, shape (Z, B * S, A); each row has
            S next actions.
        guide: Index of the critic that guides the policy, below E, shape ().
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
        num_critics: E.
    """

    generator: torch.Generator
    num_diffusion_steps: int
    num_noises: int
    action_size: int
    num_target_samples: int
    num_critics: int = 2

    def draw(self, batch_size: int) -> UpdateNoise:
        """Draw the noise of one update of ``batch_size`` rows."""
        z, a = self.num_noises, self.action_size
        return UpdateNoise(
            step=self._integers(self.num_diffusion_steps, (batch_size,)),
            imitation=self._normal((batch_size, a)),
            policy=self._normal((z, batch_size, a)),
            target=self._normal((z, batch_size * self.num_target_samples, a)),
            guide=self._integers(self.num_critics, ()),
        )

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device)

    def _integers(self, end: int, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return torch.randint(end, shape, generator=self.generator, device=device)
