"""Files of D4RL and d3rlpy 1.x: the steps of all episodes are rows, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dql_core.data.importers.files import (
    FileContent,
    flags,
    flat_rows,
    following_rows,
    hdf5_names,
    read_hdf5,
    require_continuous,
    require_rows,
    single_numbers,
)
from dql_core.data.importers.rows import Rows, cut_episodes
from dql_core.errors import DatasetError


def read_d4rl(path: Path, time_limit: int | None = None) -> FileContent:
    """Read observations, actions, rewards, terminals and, where there are, timeouts.

    Without `next_observations` the transitions are those of `d4rl.qlearning_dataset`, which leaves
    out the last step of an episode that timed out. With them no transition is left out, and where
    they do not go on in the next row, an episode ends as well.

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
    single = {name: arrays[name] for name in ("rewards", "terminals", ends) if name in arrays}
    arrays |= single_numbers(path, len(actions), **single)
    require_rows(path, len(actions), **arrays)
    observed = flat_rows(path, "observations", observations)
    name = "next_observations"
    rows = Rows(
        observations=observed,
        actions=flat_rows(path, "actions", actions),
        rewards=arrays["rewards"].astype(np.float64),
        terminals=flags(path, "terminals", arrays["terminals"]),
        ends=flags(path, ends, arrays[ends]) if ends in arrays else None,
        ends_name=ends,
        next_observations=following_rows(path, name, arrays[name], observed)
        if name in arrays
        else None,
    )
    episodes, notes = cut_episodes(rows, time_limit, path)
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], notes)
