"""The random numbers of one decision, drawn outside the policy's graph."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.choice import Selection


class Noise(NamedTuple):
    """Inputs of the graph that make it a pure function.

    Attributes:
        steps: Standard normal; ``steps[0]`` starts the reverse chain, ``steps[i]`` is added in
            its i-th later step; shape (S, K, A).
        selection: Gumbel noise on the candidates' scores, so that their argmax is a draw from
            the softmax; zeros where the best is wanted; shape (K,).
    """

    steps: NDArray[np.float32]
    selection: NDArray[np.float32]


def draw_noise(
    rng: np.random.Generator, shape: tuple[int, int, int], selection: Selection
) -> Noise:
    """Draw the noise of one decision.

    Args:
        rng: Source of all randomness.
        shape: Draws for each action dimension, candidates, action width: (S, K, A).
        selection: How a candidate is chosen. A single one needs no draw.
    """
    steps = rng.standard_normal(shape, dtype=np.float32)
    if draws_selection(shape[1], selection):
        return Noise(steps, rng.gumbel(size=shape[1]).astype(np.float32))
    return Noise(steps, np.zeros(shape[1], dtype=np.float32))


def draws_selection(num_candidates: int, selection: Selection) -> bool:
    """Whether the choice of a candidate is random."""
    return selection == "softmax" and num_candidates > 1
