"""Files of other libraries: flat HDF5 of D4RL, d3rlpy 1.x's `MDPDataset`, imitation's .npz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.data.importers.files import (
    FileContent,
    flags,
    flat_rows,
    hdf5_names,
    read_hdf5,
    read_npz,
    require_continuous,
    require_rows,
)
from dql_core.data.importers.rows import Rows, cut_episodes
from dql_core.errors import DatasetError


def read_d4rl(path: Path, time_limit: int | None = None) -> FileContent:
    """Read observations, actions, rewards, terminals and, where there are, timeouts.

    The transitions are those of `d4rl.qlearning_dataset`, which leaves out the last step of an
    episode that timed out. Where `next_observations` do not go on in the next row, an episode
    ends as well.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    names = hdf5_names(path)
    if "episode_terminals" in names:
        raise DatasetError(f"{path}: is a file of d3rlpy; give --format d3rlpy")
    return _read_rows(path, time_limit, ends="timeouts", optional=["next_observations"])


def read_d3rlpy(path: Path, time_limit: int | None = None) -> FileContent:
    """Read observations, actions, rewards, terminals and episode_terminals, one row a step.

    ``episode_terminals`` end an episode and ``terminals`` the task. As in d3rlpy 1.x, the last
    row of an episode is a transition only if the task ended.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    names = hdf5_names(path)
    if "timeouts" in names:
        raise DatasetError(f"{path}: is a file of D4RL; give --format d4rl")
    if "version" not in names and "discrete_action" in names:
        raise DatasetError(
            f"{path}: was written by d3rlpy before 1.0, where a reward belongs to the step "
            f"before; load it with d3rlpy 1.x, check the rewards, and dump it again"
        )
    return _read_rows(path, time_limit, ends="episode_terminals", optional=["discrete_action"])


def _read_rows(
    path: Path, time_limit: int | None, *, ends: str, optional: Sequence[str]
) -> FileContent:
    """Read a flat file in which ``ends`` are the other ends of episodes beside terminals."""
    arrays = read_hdf5(
        path, ["observations", "actions", "rewards", "terminals"], [ends, *optional]
    )
    observations, actions = arrays["observations"], arrays["actions"]
    is_discrete = bool(np.any(arrays.pop("discrete_action", False)))
    require_continuous(path, observations, actions, discrete=is_discrete)
    if ends == "timeouts" and ends not in arrays and time_limit is None:
        raise DatasetError(
            f"{path}: holds no 'timeouts', so that it does not say where one episode ends and "
            f"the next begins; give --time-limit with the environment's number of steps"
        )
    for name in ("rewards", "terminals", ends):
        if name in arrays:
            arrays[name] = arrays[name].reshape(-1)
    require_rows(path, len(actions), **arrays)
    following = arrays.get("next_observations")
    rows = Rows(
        observations=flat_rows(observations),
        actions=flat_rows(actions),
        rewards=arrays["rewards"].astype(np.float64),
        terminals=flags(path, "terminals", arrays["terminals"]),
        ends=flags(path, ends, arrays[ends]) if ends in arrays else None,
        next_observations=None if following is None else flat_rows(following),
    )
    episodes, notes = cut_episodes(rows, time_limit, path)
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], notes)


def read_imitation(path: Path, time_limit: int | None = None) -> FileContent:
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
    rewards = arrays.get("rews", np.zeros(len(actions))).astype(np.float64).reshape(-1)
    terminal = arrays["terminal"].reshape(-1)
    require_rows(path, len(actions) + len(stops), obs=observations)
    require_rows(path, len(actions), rews=rewards)
    require_rows(path, len(stops), terminal=terminal)
    terminal = flags(path, "terminal", terminal)
    terminated = _terminated(terminal, np.diff(stops, prepend=0), time_limit, path)
    flat_observations, flat_actions = flat_rows(observations), flat_rows(actions)
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
    )
    limits = int(terminal.sum() - terminated.sum())
    if limits:
        notes.append(f"{limits} terminations after {time_limit} steps are time limits: truncated")
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], tuple(notes))


def _splits(indices: NDArray[Any], count: int, path: Path) -> list[int]:
    """Return where the actions are split into episodes."""
    within = indices.ndim == 1 and np.all((indices >= 0) & (indices <= count))
    if indices.size and not (
        within and indices.dtype.kind in "iu" and np.all(indices[:-1] <= indices[1:])
    ):
        raise DatasetError(
            f"{path}: 'indices' are no rising numbers from 0 to {count}, the number of actions; "
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
