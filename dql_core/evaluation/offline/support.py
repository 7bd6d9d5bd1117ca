"""Where a policy does what nobody did nearby: values of that are extrapolated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dql_core.evaluation.offline.recording import Recording

# Share of the recording's own actions that are called far from all others.
OWN_FAR_SHARE = 0.05
NEIGHBOURS = 50
MAX_RECORDED = 20_000
# Where there is one episode only, so many steps around a state are not asked.
_STEPS_APART = 25
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Support:
    """Recorded transitions near each of N states, and how far apart their actions are.

    Attributes:
        actions: Standardised, of the whole recording, shape (M, A).
        returns: What was earned from each transition of the recording on, shape (M,).
        nearby: Numbers of the transitions near each state, shape (N, k), of other episodes where
            there are any.
        threshold: A distance beyond this is far: a share `OWN_FAR_SHARE` of the recorded actions
            is as far from all those recorded nearby.
    """

    actions: NDArray[np.float32]
    returns: NDArray[np.float64]
    nearby: NDArray[np.int64]
    threshold: float

    def of(self, states: slice) -> Support:
        """Return the support of some of the states."""
        return replace(self, nearby=self.nearby[states])

    def earned(self, views: int) -> NDArray[np.float64]:
        """Return what was earned near each state, from a low view to a high one, (views, N).

        Of three views, these are the quantiles 1/6, 1/2 and 5/6, and so on.
        """
        levels = (np.arange(views) + 0.5) / views
        return np.quantile(self.returns[self.nearby], levels, axis=1)

    def exits(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how surely each action leaves what was recorded, (..., N, A) -> (..., N).

        It is 0 up to the threshold, 1 from twice the threshold on, and rises between them.
        """
        beyond = self._distances(actions) - self.threshold
        width = max(self.threshold, float(np.finfo(np.float32).tiny))
        exits: NDArray[np.float32] = (np.clip(beyond, 0.0, width) / width).astype(np.float32)
        return exits

    def far_share(self, actions: NDArray[np.float32]) -> float:
        """Return the share of the N states in which an action, shape (N, A), is far."""
        return float((self._distances(actions) > self.threshold).mean())

    def _distances(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each action is from the nearest of those nearby, (..., N)."""
        found = np.empty(actions.shape[:-1], dtype=np.float32)
        for start in range(0, len(self.nearby), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            apart = self.actions[self.nearby[part]] - actions[..., part, None, :]
            found[..., part] = np.linalg.norm(apart, axis=-1).min(axis=-1)
        return found


def measure_support(recording: Recording, rows: NDArray[np.int64], seed: int) -> Support:
    """Find what was recorded near states.

    Args:
        recording: The transitions; which are looked at is drawn where there are many.
        rows: The states as rows of the recording's observations, shape (N,). At one of them at
            least, an action must have been recorded.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    recorded = np.sort(rng.permutation(len(recording))[:MAX_RECORDED])
    nearby = recorded[_nearest(recording, rows, recorded)]
    here = np.searchsorted(recording.rows, rows)
    here[here == len(recording)] = 0
    acted = np.flatnonzero(recording.rows[here] == rows)
    own = Support(recording.actions, recording.expected, nearby[acted], 0.0)
    distances = own._distances(recording.actions[here[acted]])
    threshold = float(np.quantile(distances, 1.0 - OWN_FAR_SHARE))
    return replace(own, nearby=nearby, threshold=threshold)


def _nearest(
    recording: Recording, rows: NDArray[np.int64], recorded: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return which of the recorded transitions start nearest to the rows, (N, k)."""
    starts = recording.rows[recorded]
    episodes = recording.episodes_of_rows
    alone = len(recording.firsts) == 1
    of_one = 2 * _STEPS_APART + 1 if alone else np.bincount(episodes[starts]).max()
    count = int(np.clip(len(recorded) - of_one, 1, NEIGHBOURS))

    def own(part: slice) -> NDArray[np.bool_]:
        if alone:
            close: NDArray[np.bool_] = np.abs(rows[part, None] - starts) <= _STEPS_APART
            return close
        same: NDArray[np.bool_] = episodes[rows[part], None] == episodes[starts]
        return same

    return nearest_rows(recording.observations[rows], recording.observations[starts], own, count)


def nearest_rows(
    here: NDArray[np.float32],
    there: NDArray[np.float32],
    own: Callable[[slice], NDArray[np.bool_]],
    count: int,
) -> NDArray[np.int64]:
    """Return which rows of a recording are nearest to each of N, shape (N, count).

    Args:
        here: Standardised, shape (N, O).
        there: Likewise, shape (R, O).
        own: Of some of the N, which of the R do not count for them, shape (n, R).
        count: How many are asked for; as many count at least.
    """
    recorded = torch.as_tensor(there)
    found = [np.zeros((0, count), dtype=np.int64)]
    for first in range(0, len(here), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        distances = torch.cdist(torch.as_tensor(here[part]), recorded)
        distances[torch.as_tensor(own(part))] = torch.inf
        found.append(distances.topk(count, largest=False).indices.numpy())
    return np.concatenate(found)
