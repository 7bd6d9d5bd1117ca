"""The flat HDF5 files of D4RL."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dql_core.data.importers.content import (
    FileContent,
    flags,
    flat_rows,
    require_continuous,
    require_rows,
)
from dql_core.data.importers.files import hdf5_names, read_hdf5
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
    if "episode_terminals" in hdf5_names(path):
        raise DatasetError(f"{path}: is a file of d3rlpy; give --format d3rlpy")
    arrays = read_hdf5(
        path,
        ["observations", "actions", "rewards", "terminals"],
        ["timeouts", "next_observations"],
    )
    observations, actions = arrays["observations"], arrays["actions"]
    require_continuous(path, observations, actions)
    if "timeouts" not in arrays and time_limit is None:
        raise DatasetError(
            f"{path}: holds no 'timeouts', so that it does not tell where one episode ends and "
            f"the next begins; give --time-limit with the environment's number of steps"
        )
    rewards, terminals = arrays["rewards"].reshape(-1), arrays["terminals"].reshape(-1)
    following = arrays.get("next_observations")
    timeouts = arrays["timeouts"].reshape(-1) if "timeouts" in arrays else None
    require_rows(
        path,
        len(actions),
        observations=observations,
        rewards=rewards,
        terminals=terminals,
        timeouts=terminals if timeouts is None else timeouts,
        next_observations=observations if following is None else following,
    )
    rows = Rows(
        observations=flat_rows(observations),
        actions=flat_rows(actions),
        rewards=rewards.astype(np.float64),
        terminals=flags(path, "terminals", terminals),
        ends=None if timeouts is None else flags(path, "timeouts", timeouts),
        next_observations=None if following is None else flat_rows(following),
    )
    episodes, notes = cut_episodes(rows, time_limit, path)
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], notes)
