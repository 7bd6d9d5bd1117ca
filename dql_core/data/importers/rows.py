"""Steps of many episodes as rows, one after the other, and how they are cut into episodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.errors import DatasetError, counted


@dataclass(frozen=True)
class Rows:
    """N steps of many episodes; row i + 1 follows row i unless an episode ends there.

    Attributes:
        observations: What each action was taken in, shape (N, O).
        actions: Shape (N, A).
        rewards: What each action earned, shape (N,).
        terminals: Where the task itself ended, shape (N,).
        ends: Where the recording of an episode ended for another reason, shape (N,); ``None`` if
            the file does not say.
        ends_name: What the file calls them.
        next_observations: What followed each action, shape (N, O), if the file says.
        of_one_episode: ``next_observations`` never hold the start of the next episode.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminals: NDArray[np.bool_]
    ends: NDArray[np.bool_] | None
    ends_name: str
    next_observations: NDArray[np.float32] | None = None
    of_one_episode: bool = False

    @property
    def says_ends(self) -> bool:
        """Whether the file says where episodes end that did not terminate."""
        return self.ends is not None and bool((self.ends | self.terminals).any())


def without_rests(rows: Rows) -> tuple[Rows, list[str]]:
    """Leave out what an episode goes on with after its first termination; add a note on it.

    Args:
        rows: Steps of which ``ends`` say where each episode ends.
    """
    assert rows.ends is not None
    before: NDArray[np.int64] = np.cumsum(rows.terminals) - rows.terminals
    starts = np.append(True, rows.ends[:-1])
    # `before` never falls: the largest one at a start so far is that of the row's own episode.
    kept: NDArray[np.bool_] = before == np.maximum.accumulate(np.where(starts, before, 0))
    if kept.all():
        return rows, []
    columns: dict[str, Any] = {
        name: value[kept] for name, value in vars(rows).items() if isinstance(value, np.ndarray)
    }
    note = (
        f"{int((~kept).sum())} of {len(kept)} rows are left out: they go on after their episode "
        f"had terminated"
    )
    return replace(rows, **columns), [note]


def cut_episodes(
    rows: Rows, time_limit: int | None, path: Path
) -> tuple[tuple[Episode, ...], tuple[str, ...]]:
    """Cut rows into episodes; return them, and notes on what was changed or left out.

    What followed the last action of an episode that did not terminate is in no other row: unless
    the file has ``next_observations``, that action makes no transition (as in d3rlpy 1.x and in
    `d4rl.qlearning_dataset`). ``time_limit`` cuts an episode off: a termination after so many
    steps is none, and where the file does not say where episodes end, they end there.
    """
    spans = _spans(rows, time_limit, path)
    follows = _follows(rows, spans)
    cut = [_episode(rows, first, stop, time_limit, follows) for first, stop in spans]
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
            if rows.says_ends:
                raise DatasetError(
                    f"{path}: the episode that starts in row {first} has {step} steps, and "
                    f"--time-limit is {time_limit}; give the environment's limit, or none"
                )
            step = time_limit
        spans += [(start, min(start + step, stop)) for start in range(first, stop, step)]
    return spans


def _jumps(rows: Rows) -> NDArray[np.bool_]:
    """Find where the next row does not hold what followed the action."""
    jumps = np.zeros(len(rows.actions), dtype=bool)
    if rows.next_observations is not None:
        following, observed = rows.next_observations[:-1], rows.observations[1:]
        near = np.isclose(following, observed, rtol=1e-4, atol=1e-6, equal_nan=True)
        jumps[:-1] = ~near.all(axis=1)
    return jumps


def _follows(rows: Rows, spans: list[tuple[int, int]]) -> bool:
    """Whether ``next_observations`` hold what followed the last action of an episode.

    In some files they are the observations moved by a row, so that after an episode's last action
    comes the first observation of the next episode: then it is reached by a longer step than
    others (than 99 of 100, for the typical end).
    """
    if rows.next_observations is None:
        return False
    cut = np.zeros(len(rows.actions), dtype=bool)
    cut[[stop - 1 for _, stop in spans[:-1]]] = True
    cut &= ~rows.terminals & ~_jumps(rows)
    inside = ~cut & ~rows.terminals
    if rows.of_one_episode or not cut.any() or not inside.any():
        return True
    steps = np.abs(rows.next_observations - rows.observations)
    usual = np.maximum(steps[inside].mean(axis=0), np.finfo(np.float32).tiny)
    sizes = (steps / usual).max(axis=1)
    return bool(np.median(sizes[cut]) <= np.quantile(sizes[inside], 0.99))


def _episode(rows: Rows, first: int, stop: int, time_limit: int | None, follows: bool) -> Episode:
    last = stop - 1
    at_limit = stop - first == time_limit
    terminated = bool(rows.terminals[last]) and not at_limit
    cut_off = at_limit or (rows.ends is not None and bool(rows.ends[last]))
    observations = rows.observations[first:stop]
    if rows.next_observations is not None and (terminated or follows or not cut_off):
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
    notes = [] if time_limit else _notes_on_ends(rows, len(spans))
    if limits:
        notes.append(f"{limits} terminations after {time_limit} steps are time limits: truncated")
    if left_out:
        mean = f" (with their rewards the mean return is {rows.rewards.sum() / len(spans):.4f})"
        notes.append(
            f"{left_out} of {len(rows.actions)} rows make no transition: each is the last one of "
            f"an episode without a termination, and what followed it is not in the file"
            f"{mean if rows.rewards.any() else ''}"
        )
    if empty:
        notes.append(f"{empty} episodes of a single such row are left out")
    return notes


def _notes_on_ends(rows: Rows, episodes: int) -> list[str]:
    """Say where nothing, or too little, marks the ends of episodes."""
    notes = []
    if episodes == 1 and not rows.says_ends:
        notes.append(
            f"no row is marked as an end ('terminals', '{rows.ends_name}'): all "
            f"{len(rows.actions)} rows are one episode; if they are several, give --time-limit"
        )
    elif rows.ends is None and rows.next_observations is None:
        notes.append(
            f"the file has no '{rows.ends_name}', so that only terminations end an episode; if "
            f"episodes have a time limit, give --time-limit"
        )
    ends = rows.terminals if rows.ends is None else rows.terminals | rows.ends
    if jumps := int((_jumps(rows) & ~ends).sum()):
        notes.append(
            f"{counted(jumps, 'time')} the next row does not hold what is said to have followed: "
            f"an episode ends there, truncated"
        )
    return notes
