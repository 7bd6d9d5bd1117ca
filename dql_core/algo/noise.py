"""All that is random in a run: a seed for each use, and the noise of one update.

The noise is drawn before the update, which is then a pure function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Draws where the imitation loss of that many rows is taken, from a generator.
TimeDraw = Callable[[int, torch.Generator], Tensor]


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
        time: Where each row's imitation loss is taken: a diffusion step, integer, shape (B,); of
            a mean flow the two ends of a span of time, shape (B, 2).
        imitation: Noise put into the data's actions, shape (B, A).
        policy: What the policy makes actions of, shape (Z, B, A).
        target: What the target policy makes actions of, shape (Z, B * S, A); each row has S next
            actions.
        guide: Index of the critic that guides the policy, below E, shape ().
    """

    time: Tensor
    imitation: Tensor
    policy: Tensor
    target: Tensor
    guide: Tensor


@dataclass(frozen=True)
class NoiseSource:
    """Draws the noise of updates; its generator's state is all there is to resume from.

    Attributes:
        generator: Source of all randomness of the updates, on the networks' device.
        draw_time: Draws where imitation losses are taken.
        num_noises: Draws that an action needs for each of its dimensions, Z.
        action_size: A.
        num_target_samples: S.
        num_critics: E.
    """

    generator: torch.Generator
    draw_time: TimeDraw
    num_noises: int
    action_size: int
    num_target_samples: int
    num_critics: int = 2

    def draw(self, batch_size: int) -> UpdateNoise:
        """Draw the noise of one update of ``batch_size`` rows."""
        z, a = self.num_noises, self.action_size
        return UpdateNoise(
            time=self.draw_time(batch_size, self.generator),
            imitation=self._normal((batch_size, a)),
            policy=self._normal((z, batch_size, a)),
            target=self._normal((z, batch_size * self.num_target_samples, a)),
            guide=_integers(self.num_critics, (), self.generator),
        )

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        device = self.generator.device
        return torch.randn(shape, generator=self.generator, device=device)


def diffusion_step(num_steps: int) -> TimeDraw:
    """Return what draws diffusion steps uniformly from 0 ... N - 1, N = ``num_steps``."""
    return lambda batch_size, generator: _integers(num_steps, (batch_size,), generator)


def _integers(end: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(end, shape, generator=generator, device=generator.device)
