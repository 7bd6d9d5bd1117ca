"""The reverse process: from noise to an action (arXiv 2208.06193, equation in 2.1).

Everything here is in the normalised action space, where the bounds are [-1, 1], and all noise
comes in as an argument: torch, numpy and an exported graph then agree number by number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dql_core.models.schedule import ImitationLoss, NoiseSchedule, Prediction, Sampler, Variance

StepPrediction = Callable[[Tensor, int], Tensor]


class NoiseModel(Protocol):
    """A model of the noise in an action; it is asked for one observation batch at a time."""

    def condition(self, observation: Tensor) -> StepPrediction:
        """Return the prediction for (noisy action (B, A), step) given ``observation`` (B, O).

        What depends on the observation alone is computed once here, not once a reverse step.
        """
        ...


class Held(NamedTuple):
    """What a sample is to be in part, whatever the noise.

    Attributes:
        pull: The numbers that it is to be, each times its weight, shape (1, A).
        freedom: What the weight leaves of 1, shape (1, A): 1 is free, 0 is held fixed.
    """

    pull: Tensor
    freedom: Tensor

    def applied(self, action: Tensor) -> Tensor:
        """Return actions, shape (B, A), as far as they are free, and for the rest what is held."""
        return action * self.freedom + self.pull


@dataclass(frozen=True)
class ReverseStep:
    r"""One step of a chain, :math:`a' = w_c \hat a^0 + w_a a + w_z z`.

    Attributes:
        index: The step's index in the schedule, an input of the model.
        alpha_bar: What is left of the signal's variance where the step begins.
        clean_weight: Of the predicted clean action.
        noisy_weight: Of the noisy action.
        noise_weight: Of fresh standard normal noise; 0 in the last step.
    """

    index: int
    alpha_bar: float
    clean_weight: float
    noisy_weight: float
    noise_weight: float


@dataclass(frozen=True)
class ReverseProcess:
    """How a chain of noisy actions leads to a clean one.

    Attributes:
        steps: The steps taken, in their order.
        prediction: What the model predicts: ``epsilon``, the noise in an action, ``x0``, the
            clean action, or ``v``, which mixes them.
        clip_denoised: Clip the predicted clean action of every step to [-1, 1], as the paper's
            code does; the gradient is zero where it clips.
    """

    steps: tuple[ReverseStep, ...]
    prediction: Prediction = "epsilon"
    clip_denoised: bool = True

    @property
    def num_noises(self) -> int:
        """Standard normal draws that a chain needs for each action dimension, Z."""
        return 1 + sum(step.noise_weight > 0.0 for step in self.steps)

    def sample(
        self,
        denoiser: NoiseModel,
        observation: Tensor,
        noise: Tensor,
        held: Held | None = None,
    ) -> Tensor:
        """Run the whole chain to actions in [-1, 1], (B, A); gradients flow through all of it.

        What is held takes its place in the clean action of every step but the last, whose result
        the caller has to complete (DDNM, arXiv 2212.00490, of which inpainting is the simplest
        case). The noisy action, which is drawn between that and the one before, is then of its
        noise level, too, and what is free is predicted beside it. That needs no noise of its own
        and no gradients.

        Args:
            denoiser: Predicts as `prediction` says.
            observation: Shape (B, O).
            noise: Standard normal, shape (Z, B, A): ``noise[0]`` is where the chain starts,
                ``noise[j]`` is what its j-th step adds; the last step adds none.
            held: What part of the actions is to be.
        """
        predict = denoiser.condition(observation)
        action = noise[0]
        for count, step in enumerate(self.steps, start=1):
            clean = self.clean_action(action, predict(action, step.index), step.alpha_bar)
            if held is not None and count < len(self.steps):
                clean = held.applied(clean)
            action = torch.add(step.noisy_weight * action, clean, alpha=step.clean_weight)
            if step.noise_weight > 0.0:
                action = torch.add(action, noise[count], alpha=step.noise_weight)
        return action.clamp(-1.0, 1.0)

    def clean_action(self, action: Tensor, predicted: Tensor, alpha_bar: Tensor | float) -> Tensor:
        r"""Return the clean action that a prediction implies, clipped if so configured.

        For ``epsilon`` it is :math:`(a^i - \sqrt{1 - \bar\alpha_i}\, \epsilon) /
        \sqrt{\bar\alpha_i}`, for ``v``
        :math:`\sqrt{\bar\alpha_i}\, a^i - \sqrt{1 - \bar\alpha_i}\, v`.

        Args:
            action: Noisy action, shape (B, A).
            predicted: The model's output for it, shape (B, A).
            alpha_bar: What is left of the signal's variance: one number, or one a row, (B, 1).
        """
        clean = predicted
        if self.prediction == "epsilon":
            clean = (action - (1.0 - alpha_bar) ** 0.5 * predicted) / alpha_bar**0.5
        elif self.prediction == "v":
            clean = alpha_bar**0.5 * action - (1.0 - alpha_bar) ** 0.5 * predicted
        return clean.clamp(-1.0, 1.0) if self.clip_denoised else clean

    def target(self, action: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
        r"""Return what the model is to predict, shape (B, A).

        For ``v`` it is :math:`\sqrt{\bar\alpha_i}\, \epsilon - \sqrt{1 - \bar\alpha_i}\, a`
        (arXiv 2202.00512, appendix D).

        Args:
            action: The clean action, shape (B, A).
            noise: Of which some is in the noisy one, shape (B, A).
            alpha_bar: What is left of the signal's variance, shape (B, 1).
        """
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "x0":
            return action
        return alpha_bar.sqrt() * noise - (1.0 - alpha_bar).sqrt() * action

    def error_scale(self, loss: ImitationLoss, alpha_bars: Tensor) -> Tensor:
        r"""Return what the error of a prediction is multiplied by in a loss.

        The error of the noise that follows from it is, for ``x0``,
        :math:`\sqrt{\bar\alpha_i / (1 - \bar\alpha_i)}` times as large, the root of the ratio of
        signal to noise, and for ``v`` :math:`\sqrt{\bar\alpha_i}` times (arXiv 2202.00512,
        section 4).

        Args:
            loss: As in `dql_core.config.DiffusionConfig`.
            alpha_bars: What is left of the signal's variance, of any shape.
        """
        noise = torch.ones_like(alpha_bars)
        if self.prediction == "x0":
            noise = (alpha_bars / (1.0 - alpha_bars)).sqrt()
        elif self.prediction == "v":
            noise = alpha_bars.sqrt()
        if loss == "prediction":
            return torch.ones_like(alpha_bars)
        return noise if loss == "noise" else noise.clamp(min=1.0)


def make_process(
    schedule: NoiseSchedule,
    *,
    sampler: Sampler = "ddpm",
    num_sampling_steps: int | None = None,
    variance: Variance = "posterior",
    prediction: Prediction = "epsilon",
    clip_denoised: bool = True,
) -> ReverseProcess:
    """Prepare the coefficients of a chain.

    Args:
        schedule: Noise schedule with N steps.
        sampler: As in `dql_core.config.DiffusionConfig`, like the rest. ``ddpm`` (arXiv
            2006.11239) adds noise in each step, ``ddim`` (arXiv 2010.02502, eta = 0) adds none.
        num_sampling_steps: Steps that ``ddim`` takes of the N, spread evenly; None for all.
        variance: Of a ``ddpm`` step.
        prediction: What the model predicts.
        clip_denoised: Clip the predicted clean action of every step.
    """
    if sampler == "ddpm":
        steps = _ddpm_steps(schedule, variance)
    else:
        steps = _ddim_steps(schedule, num_sampling_steps or schedule.num_steps)
    return ReverseProcess(steps, prediction, clip_denoised)


def _ddpm_steps(schedule: NoiseSchedule, variance: Variance) -> tuple[ReverseStep, ...]:
    r"""Draw from :math:`p(a^{i-1} | a^i)`.

    Without clipping its mean equals the paper's
    :math:`a^i / \sqrt{\alpha_i} - \beta_i / \sqrt{\alpha_i (1 - \bar\alpha_i)}\, \epsilon`.
    """
    std = schedule.reverse_std(variance)
    return tuple(
        ReverseStep(
            index=step,
            alpha_bar=float(schedule.alpha_bars[step]),
            clean_weight=float(schedule.clean_weight[step]),
            noisy_weight=float(schedule.noisy_weight[step]),
            noise_weight=float(std[step]),
        )
        for step in reversed(range(schedule.num_steps))
    )


def _ddim_steps(schedule: NoiseSchedule, count: int) -> tuple[ReverseStep, ...]:
    """Go straight to the noise level of the next step taken (arXiv 2010.02502, equation 12)."""
    indices = np.linspace(schedule.num_steps - 1, 0, count).round().astype(int)
    alpha_bars = schedule.alpha_bars[indices]
    next_alpha_bars = np.append(alpha_bars[1:], 1.0)
    noisy_weights = np.sqrt((1.0 - next_alpha_bars) / (1.0 - alpha_bars))
    clean_weights = np.sqrt(next_alpha_bars) - noisy_weights * np.sqrt(alpha_bars)
    columns = (indices, alpha_bars, clean_weights, noisy_weights, np.zeros(count))
    return tuple(
        ReverseStep(int(index), *(float(value) for value in values))
        for index, *values in zip(*columns, strict=True)
    )
