r"""Noise schedules and the coefficients of the forward and the reverse process.

Steps count from 0 here and from 1 in the paper: ``betas[0]`` is :math:`\beta_1`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ScheduleName = Literal["vp", "cosine", "linear"]
Prediction = Literal["epsilon", "x0", "v"]
ImitationLoss = Literal["larger", "noise", "prediction"]
Sampler = Literal["ddpm", "ddim"]
Variance = Literal["posterior", "beta"]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    r"""The betas of a diffusion process and what follows from them.

    With :math:`\alpha_i = 1 - \beta_i` and :math:`\bar\alpha_i = \prod_{j \le i} \alpha_j`, the
    forward process is :math:`a^i = \sqrt{\bar\alpha_i} a + \sqrt{1 - \bar\alpha_i} \epsilon`.

    Attributes:
        betas: Shape (N,), float64, each in (0, 1).
    """

    betas: NDArray[np.float64]

    @classmethod
    def make(cls, name: ScheduleName, num_steps: int) -> NoiseSchedule:
        """Build a named schedule with N = ``num_steps``."""
        return cls(_BETAS[name](num_steps))

    @property
    def num_steps(self) -> int:
        """Number of diffusion steps, N."""
        return len(self.betas)

    @cached_property
    def alphas(self) -> NDArray[np.float64]:
        """What a step keeps of the signal's variance, shape (N,)."""
        return 1.0 - self.betas

    @cached_property
    def alpha_bars(self) -> NDArray[np.float64]:
        """What is left of the signal's variance after each step, shape (N,)."""
        return np.cumprod(self.alphas, dtype=np.float64)

    @cached_property
    def previous_alpha_bars(self) -> NDArray[np.float64]:
        """`alpha_bars` one step earlier; 1 before the first, shape (N,)."""
        return np.concatenate([[1.0], self.alpha_bars[:-1]])

    @cached_property
    def posterior_variance(self) -> NDArray[np.float64]:
        r"""Variance of :math:`q(a^{i-1} | a^i, a^0)`, shape (N,); 0 at the first step."""
        removed = 1.0 - self.previous_alpha_bars
        return np.asarray(self.betas * removed / (1.0 - self.alpha_bars))

    @cached_property
    def clean_weight(self) -> NDArray[np.float64]:
        r"""Weight of :math:`a^0` in the mean of :math:`q(a^{i-1} | a^i, a^0)`, shape (N,)."""
        kept = np.sqrt(self.previous_alpha_bars)
        return np.asarray(self.betas * kept / (1.0 - self.alpha_bars))

    @cached_property
    def noisy_weight(self) -> NDArray[np.float64]:
        r"""Weight of :math:`a^i` in the mean of :math:`q(a^{i-1} | a^i, a^0)`, shape (N,)."""
        removed = 1.0 - self.previous_alpha_bars
        return np.asarray(removed * np.sqrt(self.alphas) / (1.0 - self.alpha_bars))

    def reverse_std(self, variance: Variance) -> NDArray[np.float64]:
        """Standard deviation of the noise of each reverse step, shape (N,).

        Args:
            variance: ``posterior`` as in the paper's code, or ``beta`` as in the paper (2.1).

        Returns:
            Zero at the first step, whose result is the action.
        """
        std = np.sqrt(self.posterior_variance if variance == "posterior" else self.betas)
        std[0] = 0.0
        return std


def _vp_betas(num_steps: int) -> NDArray[np.float64]:
    """Variance-preserving SDE at N points (arXiv 2208.06193, section 3)."""
    beta_min, beta_max = 0.1, 10.0
    step = np.arange(1, num_steps + 1)
    linear = beta_min / num_steps
    slope = 0.5 * (beta_max - beta_min) * (2 * step - 1) / num_steps**2
    return np.asarray(1.0 - np.exp(-linear - slope))


def _cosine_betas(num_steps: int) -> NDArray[np.float64]:
    """The cosine schedule of arXiv 2102.09672 as the paper's code computes it."""
    offset, points = 0.008, num_steps + 1
    phase = (np.linspace(0, points, points) / points + offset) / (1.0 + offset)
    alpha_bars = np.cos(phase * np.pi / 2) ** 2
    return np.asarray(np.clip(1.0 - alpha_bars[1:] / alpha_bars[:-1], 0.0, 0.999))


def _linear_betas(num_steps: int) -> NDArray[np.float64]:
    """From 1e-4 to 2e-2 whatever N is (arXiv 2006.11239): only for N in the hundreds."""
    return np.linspace(1e-4, 2e-2, num_steps)


_BETAS: dict[str, Callable[[int], NDArray[np.float64]]] = {
    "vp": _vp_betas,
    "cosine": _cosine_betas,
    "linear": _linear_betas,
}
