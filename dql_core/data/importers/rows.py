"""Recorded steps in a row, and the episodes that they are cut into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.errors import DatasetError


@dataclass(frozen=True)
class Rows:
    """N steps of many episodes; row i + 1 follows row i unless an episode ends there.

    Attributes:
        observations: What each action was taken in, shape (N, O).
        actions: Shape (N, A).
        rewards: What each action earned, shape (N,).
        terminals: Where the task itself ended, shape (N,).
        ends: Where the recording of an episode ended for another reason, shape (N,); ``None`` if
            the file does not tell.
        next_observations: What followed each action, shape (N, O), if the file tells.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminals: NDArray[np.bool_]
    ends: NDArray[np.bool_] | None
    next_observations: NDArray[np.float32] | None = None


def cut_episodes(
    rows: Rows, time_limit: int | None, path: Path
) -> tuple[tuple[Episode, ...], tuple[str, ...]]:
    """Cut rows into episodes.

    The last action of an episode that did not terminate has no successor in the file, so that it
    makes no transition (as in d3rlpy 1.x and in `d4rl.qlearning_dataset`).

    Args:
        rows: The file's rows.
        time_limit: Steps after which an episode is cut off: a termination after so many is none,
            and where the file does not tell ends, episodes end there.
        path: For messages.

    Returns:
        The episodes, and notes on what was changed or left out.

    Raises:
        DatasetError: If an episode is longer than ``time_limit``.
    """
    spans = _spans(rows, time_limit, path)
    cut = [_episode(rows, first, stop, time_limit) for first, stop in spans]
    episodes = tuple(episode for episode in cut if len(episode))
    return episodes, tuple(_notes(rows, spans, cut, time_limit))


def _spans(rows: Rows, time_limit: int | None, path: Path) -> list[tuple[int, int]]:
    """Return the first row of each episode and the row after its last one."""
    count = len(rows.actions)
    last = rows.terminals | _jumps(rows)
    if rows.ends is not None:
        last = last | rows.ends
    stops = [*(np.flatnonzero(last[:-1]) + 1).tolist(), count]
    spans = []
    for first, stop in zip([0, *stops], stops, strict=False):
        step = stop - first
        if time_limit and step > time_limit:
            if rows.ends is not None:
                raise DatasetError(
                    f"{path}: the episode that starts in row {first} has {step} steps, and "
                    f"--time-limit is {time_limit}; give the environment's limit, or none"
                )
            step = time_limit
        spans += [(start, min(start + step, stop)) for start in range(first, stop, step)]
    return spans


def _jumps(rows: Rows) -> NDArray[np.bool_]:
    """Tell where the next row does not hold what followed the action."""
    jumps = np.zeros(len(rows.actions), dtype=bool)
    if rows.next_observations is not None:
        near = np.isclose(rows.next_observations[:-1], rows.observations[1:], rtol=1e-4, atol=1e-6)
        jumps[:-1] = ~near.all(axis=1)
    return jumps


def _episode(rows: Rows, first: int, stop: int, time_limit: int | None) -> Episode:
    last = stop - 1
    at_limit = stop - first == time_limit
    terminated = bool(rows.terminals[last]) and not at_limit
    cut_off = at_limit or (rows.ends is not None and bool(rows.ends[last]))
    observations = rows.observations[first:stop]
    if rows.next_observations is not None and (terminated or not cut_off):
        observations = np.concatenate([observations, rows.next_observations[last:stop]])
    elif terminated:  # no value follows, so that any observation does
        observations = np.concatenate([observations, observations[-1:]])
    length = len(observations) - 1
    return Episode(
        observations=observations,
        actions=rows.actions[first : first + length],
        rewards=rows.rewards[first : first + length],
        terminated=terminated,
        truncated=not terminated,
    )


def _notes(
    rows: Rows, spans: list[tuple[int, int]], cut: list[Episode], time_limit: int | None
) -> list[str]:
    left_out = len(rows.actions) - sum(len(episode) for episode in cut)
    empty = sum(len(episode) == 0 for episode in cut)
    limits = sum(
        bool(rows.terminals[stop - 1]) and not episode.terminated
        for (_, stop), episode in zip(spans, cut, strict=True)
    )
    notes = []
    if limits:
        notes.append(f"{limits} terminations after {time_limit} steps are time limits: truncated")
    if left_out:
        notes.append(
            f"{left_out} of {len(rows.actions)} rows make no transition: each is the last one of "
            f"an episode without a termination, and what followed it is not in the file (with "
            f"their rewards the mean return is {rows.rewards.sum() / len(spans):.4f})"
        )
    if empty:
        notes.append(f"{empty} episodes of a single such row are left out")
    return notes
