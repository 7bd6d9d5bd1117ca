"""Noise that resembles that of the decision before: the warm start of a reverse chain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.runtime.choice import Selection
from dql_core.runtime.noise import Noise, draws_selection

_SMALLEST, _LARGEST = np.finfo(np.float64).tiny, 1.0 - np.finfo(np.float64).epsneg


class CarriedNoise:
    r"""Starts each reverse chain near where the one before started, instead of anywhere.

    All normal draws follow :math:`z_t = \rho z_{t-1} + \sqrt{1 - \rho^2} \epsilon_t`, a stationary
    autoregression: each decision alone is distributed as without it, but consecutive ones keep to
    the same mode of the policy. The selection's Gumbel draws are made of such normal ones by their
    distribution function.
    """

    def __init__(self, correlation: float) -> None:
        r"""Begin anew.

        Args:
            correlation: :math:`\rho` of consecutive decisions, from 0 to 1.

        Raises:
            ConfigError: If it is not such a number.
        """
        if not 0.0 <= correlation <= 1.0:
            raise ConfigError(f"warm_start is {correlation}: it must be from 0 to 1")
        self._correlation = correlation
        self._last: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forget the decision before, as at the beginning of an episode."""
        self._last = None

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, int, int], selection: Selection
    ) -> Noise:
        """As `dql_core.runtime.noise.draw_noise`."""
        draws, candidates, width = shape
        normal = rng.standard_normal(draws * candidates * width + candidates, dtype=np.float32)
        if self._last is not None:
            normal *= np.float32(math.sqrt(1.0 - self._correlation**2))
            normal += np.float32(self._correlation) * self._last
        self._last = normal
        steps, scores = normal[:-candidates].reshape(shape), normal[-candidates:]
        if draws_selection(candidates, selection):
            return Noise(steps, gumbel(scores))
        return Noise(steps, np.zeros(candidates, dtype=np.float32))


def gumbel(normal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make standard Gumbel draws, shape (K,), of standard normal ones; they rise with them."""
    below = [0.5 * math.erfc(-value / math.sqrt(2.0)) for value in normal.tolist()]
    # By rounding the distribution function may reach its ends, whose draws are infinite.
    inside = np.clip(below, _SMALLEST, _LARGEST)
    drawn: NDArray[np.float32] = (-np.log(-np.log(inside))).astype(np.float32)
    return drawn
