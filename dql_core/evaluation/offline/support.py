"""Whether a policy does what was ever done nearby: values of anything else are extrapolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dql_core.evaluation.offline.recording import Recording

# Share of the recording's own actions that are called far from all others.
OWN_FAR_SHARE = 0.05
NEIGHBOURS = 50
MAX_STATES = 2_000
MAX_RECORDED = 20_000
# Where there is one episode only, so many steps around a state are not asked.
_STEPS_APART = 25
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Support:
    """Recorded actions near each of N states, and how far apart recorded ones are.

    Attributes:
        places: Which of the states that were asked for these are, shape (N,).
        nearby: Standardised actions recorded near each state, shape (N, k, A), of other episodes
            where there are any.
        threshold: A distance beyond this is far: a share `OWN_FAR_SHARE` of the recorded actions
            is as far from all those recorded nearby.
    """

    places: NDArray[np.int64]
    nearby: NDArray[np.float32]
    threshold: float

    def far_share(self, actions: NDArray[np.float32]) -> float:
        """Return the share of the N states in which an action is far from all recorded ones.

        Args:
            actions: Standardised, shape (N, A).
        """
        return float((_distances(self.nearby, actions) > self.threshold).mean())


def measure_support(recording: Recording, transitions: NDArray[np.int64], seed: int) -> Support:
    """Find what was recorded near the states that follow transitions.

    Args:
        recording: The transitions; which are looked at is drawn where there are many.
        transitions: Numbers of those whose following states are asked for, shape (L,).
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    recorded = np.sort(rng.permutation(len(recording))[:MAX_RECORDED])
    # Only where the next action is recorded, it can be compared with others.
    is_last = np.append(np.diff(recording.episodes) != 0, True)
    able = np.flatnonzero(~is_last[transitions])
    places = np.sort(rng.permutation(able)[:MAX_STATES])
    following = transitions[places] + 1
    nearby = recording.actions[recorded[_nearest(recording, following, recorded)]]
    distances = _distances(nearby, recording.actions[following])
    threshold = float(np.quantile(distances, 1.0 - OWN_FAR_SHARE)) if len(distances) else 0.0
    return Support(places, nearby, threshold)


def _nearest(
    recording: Recording, asked: NDArray[np.int64], recorded: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return which of the recorded transitions start nearest to those asked for, (N, k)."""
    there = torch.as_tensor(recording.observations[recording.rows[recorded]])
    found = [np.zeros((0, min(NEIGHBOURS, len(recorded))), dtype=np.int64)]
    alone = len(recording.firsts) == 1
    for start in range(0, len(asked), _ROWS_AT_ONCE):
        part = asked[start : start + _ROWS_AT_ONCE]
        here = torch.as_tensor(recording.observations[recording.rows[part]])
        distances = torch.cdist(here, there)
        if alone:
            own = np.abs(part[:, None] - recorded) <= _STEPS_APART
        else:
            own = recording.episodes[part][:, None] == recording.episodes[recorded]
        distances[torch.as_tensor(own)] = torch.inf
        found.append(distances.topk(found[0].shape[1], largest=False).indices.numpy())
    return np.concatenate(found)


def _distances(nearby: NDArray[np.float32], actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each action is from the nearest of those nearby, shape (N,)."""
    nearest: NDArray[np.float32] = np.linalg.norm(nearby - actions[:, None], axis=-1).min(axis=1)
    return nearest
