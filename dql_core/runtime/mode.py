r"""The rule ``mode``: the action on which candidates agree, without the noise of a single sample.

A policy that is a diffusion model imitates the noise of its data and adds its own. Of K samples,
each with a weight by its value, one mean-shift search (Fukunaga and Hostetler 1975, "The
estimation of the gradient of a density function"; Comaniciu and Meer 2002, "Mean shift") finds
where the samples are densest. What lies far away, as another way of doing the task does, has no
weight there, so that ways that a fifth of the samples or more take are not averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.policy import FEWEST_TO_AGREE, MIN_SPREAD, Choice, Decision
from dql_core.spec import PolicySpec

SHIFTS = 4
# In squares of [-1, 1] units: candidates closer than its root are the same.
SMALLEST = 1e-12
# Pairs of candidates that are looked at together: 32 MB.
MAX_PAIRS = 1 << 22

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ModeSeeker:
    """Puts the mode of a decision's candidates in the place of its action.

    Attributes:
        low: Smallest action, shape (A,); distances count in shares of the action's range.
        high: Largest action, shape (A,).
        temperature: Of the weights, in standard deviations of Q over the candidates.
        raw_temperature: It counts in Q itself.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    temperature: float
    raw_temperature: bool

    @classmethod
    def of(
        cls, choice: Choice, spec: PolicySpec, temperature: float, *, raw_temperature: bool
    ) -> ModeSeeker | None:
        """Return what ends the decisions of a policy, or None if it chooses otherwise."""
        if choice.selection != "mode":
            return None
        return cls(spec.action_low, spec.action_high, temperature, raw_temperature)

    def __call__(self, decision: Decision) -> Decision:
        """Return a decision, or decisions on V observations at once, with another action."""
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        centre, half_range = (high + low) / 2.0, (high - low) / 2.0
        candidates = (decision.candidates.astype(np.float64) - centre) / half_range
        # Chunks are near each other where all their actions are.
        flat = candidates.reshape(*decision.q_values.shape, -1)
        mode = seek_mode(flat, self._weights(decision.q_values.astype(np.float64)))
        chunk = mode.reshape(*mode.shape[:-1], -1, len(low))  # (..., H, A)
        actions = (chunk * half_range + centre).astype(np.float32)
        # Rounding may step over the bounds by a bit.
        actions = np.clip(actions, self.low, self.high)
        later = None if decision.later is None else actions[..., 1:, :]
        return replace(decision, action=actions[..., 0, :], later=later)

    def _weights(self, q_values: Array) -> Array:
        """Return what a softmax would draw each candidate with, shape (..., K)."""
        advantages = (q_values - q_values.max(axis=-1, keepdims=True)) / self.temperature
        if not self.raw_temperature:
            advantages /= np.maximum(q_values.std(axis=-1, keepdims=True), MIN_SPREAD)
        likelihoods = np.exp(advantages)
        weights: Array = likelihoods / likelihoods.sum(axis=-1, keepdims=True)
        return weights


def seek_mode(candidates: Array, weights: Array) -> Array:
    """Return where the weighted density of candidates is largest, by mean shift.

    Args:
        candidates: Shape (..., K, A), in units that are comparable over the A dimensions.
        weights: Of each, not negative, shape (..., K).

    Returns:
        Shape (..., A); of fewer than `FEWEST_TO_AGREE` the one with the largest weight.
    """
    if candidates.ndim > 2 and weights.size * weights.shape[-1] > MAX_PAIRS:
        return np.stack([seek_mode(*each) for each in zip(candidates, weights, strict=True)])
    centred = candidates - candidates.mean(axis=-2, keepdims=True)
    norms = np.square(centred).sum(axis=-1)
    distances = norms[..., :, None] + norms[..., None, :]
    distances -= 2.0 * centred @ centred.swapaxes(-1, -2)  # squared, (..., K, K)
    # One in so many is within the kernel's width: ways that as many take stay apart.
    rank = candidates.shape[-2] // FEWEST_TO_AGREE
    width = np.median(np.partition(distances, rank, axis=-1)[..., rank], axis=-1)[..., None]
    doubled = 2.0 * np.maximum(width, SMALLEST)  # width is squared, (..., 1)
    density = (np.exp(-distances / doubled[..., None]) * weights[..., None, :]).sum(axis=-1)
    densest = density.argmax(axis=-1)[..., None, None]
    mode = np.take_along_axis(centred, densest, axis=-2)  # (..., 1, A)
    for _ in range(SHIFTS):
        nearness = np.exp(-np.square(centred - mode).sum(axis=-1) / doubled) * weights
        nearness /= nearness.sum(axis=-1, keepdims=True)
        mode = nearness[..., None, :] @ centred
    found: Array = mode.squeeze(-2) + candidates.mean(axis=-2)
    return found
