r"""The reverse process: from noise to an action (arXiv 2208.06193, equation in 2.1).

Everything here is in the normalised action space, where the bounds are [-1, 1], and all noise
comes in as an argument: torch, numpy and an exported graph then agree number by number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from dql_core.diffusion.schedule import NoiseSchedule, Variance

NoisePrediction = Callable[[Tensor, int], Tensor]


class NoiseModel(Protocol):
    """A model of the noise in an action; it is asked for one observation batch at a time."""

    def condition(self, observation: Tensor) -> NoisePrediction:
        """Return the noise prediction of (noisy action (B, A), step) for ``observation`` (B, O).

        What depends on the observation alone is computed once here, not once a reverse step.
        """
        ...


def sample(
    denoiser: NoiseModel,
    schedule: NoiseSchedule,
    observation: Tensor,
    noise: Tensor,
    *,
    variance: Variance = "posterior",
    clip_denoised: bool = True,
) -> Tensor:
    """Run the whole reverse chain; gradients flow through all of it.

    Args:
        denoiser: Model of the noise.
        schedule: Noise schedule with N steps.
        observation: Shape (B, O).
        noise: Standard normal, shape (N, B, A): ``noise[0]`` is where the chain starts,
            ``noise[j]`` is what its j-th reverse step adds; the last step adds none.
        variance: ``posterior`` as in the paper's code, ``beta`` as in the paper.
        clip_denoised: Clip the predicted clean action of every step to [-1, 1], as the paper's
            code does; the gradient is zero where it clips.

    Returns:
        Actions in [-1, 1], shape (B, A).
    """
    predict_noise = denoiser.condition(observation)
    std = schedule.reverse_std(variance)
    action = noise[0]
    for step in reversed(range(schedule.num_steps)):
        epsilon = predict_noise(action, step)
        action = reverse_mean(schedule, step, action, epsilon, clip_denoised)
        if step > 0:
            fresh = noise[schedule.num_steps - step]
            action = torch.add(action, fresh, alpha=float(std[step]))
    return action.clamp(-1.0, 1.0)


def reverse_mean(
    schedule: NoiseSchedule, step: int, action: Tensor, epsilon: Tensor, clip_denoised: bool
) -> Tensor:
    r"""Mean of :math:`p(a^{i-1} | a^i)`, from the clean action that ``epsilon`` implies.

    Without clipping it equals the paper's
    :math:`a^i / \sqrt{\alpha_i} - \beta_i / \sqrt{\alpha_i (1 - \bar\alpha_i)}\, \epsilon`.

    Args:
        schedule: Noise schedule.
        step: Index of the step, from N - 1 down to 0.
        action: Noisy action, shape (B, A).
        epsilon: Predicted noise in it, shape (B, A).
        clip_denoised: Clip the implied clean action to [-1, 1].

    Returns:
        Shape (B, A).
    """
    alpha_bar = float(schedule.alpha_bars[step])
    clean = torch.sub(action, epsilon, alpha=(1.0 - alpha_bar) ** 0.5) / alpha_bar**0.5
    if clip_denoised:
        clean = clean.clamp(-1.0, 1.0)
    noisy_part = float(schedule.noisy_weight[step]) * action
    return torch.add(noisy_part, clean, alpha=float(schedule.clean_weight[step]))
