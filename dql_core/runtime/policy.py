"""A policy for those who run it, and the function at its core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.noise import Noise
from dql_core.spec import PolicySpec


@dataclass(frozen=True)
class Decision:
    """One sampled action, and what it was chosen from.

    Attributes:
        action: The chosen action in the units of the spec and within its bounds, shape (A,).
        q_values: The critic's value of each candidate, shape (K,); zeros without a critic.
        candidates: All sampled actions, shape (K, A).
    """

    action: NDArray[np.float32]
    q_values: NDArray[np.float32]
    candidates: NDArray[np.float32]


class Graph(Protocol):
    """The whole choice of an action as a pure function, whatever computes it."""

    def __call__(self, observation: NDArray[np.float32], noise: Noise) -> Decision:
        """Choose an action for a raw observation, shape (O,)."""


class Policy(Protocol):
    """Samples an action for an observation."""

    @property
    def spec(self) -> PolicySpec:
        """What observation and action mean."""

    def reset(self) -> None:
        """Begin a new episode."""

    def act(self, observation: NDArray[np.float32], rng: np.random.Generator) -> Decision:
        """Sample an action for a raw observation, shape (O,).

        All randomness comes from ``rng``: equal generators give equal decisions.
        """
