"""Arrays in an .npz file: trajectories of the imitation library, experts of Stable Baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.data.importers.files import (
    FileContent,
    flags,
    flat_rows,
    npz_names,
    read_npz,
    require_continuous,
    require_rows,
    single_numbers,
)
from dql_core.data.importers.rows import Rows, cut_episodes
from dql_core.errors import DatasetError


def read_npz_file(path: Path, time_limit: int | None = None) -> FileContent:
    """Read a file of the imitation library, or one of Stable Baselines by its episode_starts.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    if "episode_starts" in npz_names(path):
        return _read_stable_baselines(path, time_limit)
    return _read_imitation(path, time_limit)


def _read_stable_baselines(path: Path, time_limit: int | None) -> FileContent:
    """Read obs, actions, rewards and episode_starts, one row a step; others stay closed.

    Nothing in the file says how an episode ended. ``time_limit`` does: one that is shorter
    terminated, except the last one, which may have been cut off where the recording stopped.
    """
    arrays = read_npz(path, ["obs", "actions", "rewards", "episode_starts"])
    observations, actions = arrays["obs"], arrays["actions"]
    require_continuous(path, observations, actions)
    require_rows(path, len(actions), obs=observations)
    named = {name: arrays[name] for name in ("rewards", "episode_starts")}
    named = single_numbers(path, len(actions), **named)
    ends = np.append(flags(path, "episode_starts", named["episode_starts"])[1:], True)
    lengths = np.diff(np.flatnonzero(ends), prepend=-1)
    terminals = np.zeros(len(actions), dtype=bool)
    if time_limit is not None:
        terminals[np.flatnonzero(ends)[:-1]] = lengths[:-1] < time_limit
        note = (
            f"{int(terminals.sum())} of {len(lengths)} episodes are shorter than {time_limit} "
            f"steps: terminated; the others, and the last one, truncated"
        )
    else:
        note = (
            "nothing says how an episode ended: all are truncated; with --time-limit those that "
            "are shorter are terminated"
        )
    rows = Rows(
        observations=flat_rows(path, "obs", observations),
        actions=flat_rows(path, "actions", actions),
        rewards=named["rewards"].astype(np.float64),
        terminals=terminals,
        ends=ends,
        ends_name="episode_starts",
    )
    episodes, notes = cut_episodes(rows, time_limit, path)
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], (note, *notes))


def _read_imitation(path: Path, time_limit: int | None = None) -> FileContent:
    """Read obs (T + 1 rows an episode), acts, rews, indices (where acts are split) and terminal.

    Args:
        path: The file; its ``infos``, which are pickles, stay closed.
        time_limit: The library calls an episode ``terminal`` that merely reached the end of its
            time; one that has so many steps is taken as truncated.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    arrays = read_npz(path, ["obs", "acts", "indices", "terminal"], ["rews"])
    observations, actions = arrays["obs"], arrays["acts"]
    require_continuous(path, observations, actions)
    stops = [*_splits(arrays["indices"], len(actions), path), len(actions)]
    notes = []
    if "rews" not in arrays:
        notes.append("the file holds no rewards ('rews'): all are 0, for agent: diffusion_bc")
    require_rows(path, len(actions) + len(stops), obs=observations)
    rewards = arrays.get("rews", np.zeros(len(actions)))
    rewards = single_numbers(path, len(actions), rews=rewards)["rews"].astype(np.float64)
    terminal = single_numbers(path, len(stops), terminal=arrays["terminal"])["terminal"]
    terminal = flags(path, "terminal", terminal)
    terminated = _terminated(terminal, np.diff(stops, prepend=0), time_limit, path)
    flat_observations = flat_rows(path, "obs", observations)
    flat_actions = flat_rows(path, "acts", actions)
    episodes = tuple(
        Episode(
            # Each episode before has one more observation than actions.
            observations=flat_observations[first + index : stop + index + 1],
            actions=flat_actions[first:stop],
            rewards=rewards[first:stop],
            terminated=ended,
            truncated=not ended,
        )
        for index, (first, stop, ended) in enumerate(
            zip([0, *stops], stops, terminated.tolist(), strict=False)
        )
        if stop > first
    )
    if empty := len(stops) - len(episodes):
        notes.append(f"{empty} episodes without an action are left out")
    limits = int(terminal.sum() - terminated.sum())
    if limits:
        notes.append(f"{limits} terminations after {time_limit} steps are time limits: truncated")
    return FileContent(
        episodes,
        observations.shape[1:],
        actions.shape[1:],
        tuple(notes),
        has_rewards="rews" in arrays,
    )


def _splits(indices: NDArray[Any], count: int, path: Path) -> list[int]:
    """Return where the actions are split into episodes."""
    within = indices.ndim == 1 and np.all((indices >= 0) & (indices <= count))
    if indices.size and not (
        within and indices.dtype.kind in "iu" and np.all(indices[:-1] <= indices[1:])
    ):
        raise DatasetError(
            f"{path}: 'indices' are not rising numbers from 0 to {count}, the number of actions; "
            f"the file is damaged or of another format"
        )
    splits: list[int] = indices.reshape(-1).tolist()
    return splits


def _terminated(
    terminal: NDArray[np.bool_], lengths: NDArray[np.int64], time_limit: int | None, path: Path
) -> NDArray[np.bool_]:
    if time_limit is None:
        return terminal
    if lengths.max() > time_limit:
        raise DatasetError(
            f"{path}: episode {int(lengths.argmax())} has {lengths.max()} steps, and --time-limit "
            f"is {time_limit}; give the environment's limit, or none"
        )
    return terminal & (lengths < time_limit)
