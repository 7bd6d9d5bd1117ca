"""The `MDPDataset` of d3rlpy 1.x, as its `dump` writes it."""

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
    arrays = read_hdf5(
        path,
        ["observations", "actions", "rewards", "terminals"],
        ["episode_terminals", "discrete_action"],
    )
    observations, actions = arrays["observations"], arrays["actions"]
    require_continuous(
        path, observations, actions, discrete=bool(np.any(arrays.get("discrete_action", False)))
    )
    count = len(actions)
    rewards, terminals = arrays["rewards"].reshape(-1), arrays["terminals"].reshape(-1)
    ends = arrays.get("episode_terminals", terminals).reshape(-1)
    require_rows(
        path,
        count,
        observations=observations,
        rewards=rewards,
        terminals=terminals,
        episode_terminals=ends,
    )
    rows = Rows(
        observations=flat_rows(observations),
        actions=flat_rows(actions),
        rewards=rewards.astype(np.float64),
        terminals=flags(path, "terminals", terminals),
        ends=flags(path, "episode_terminals", ends) if "episode_terminals" in arrays else None,
    )
    episodes, notes = cut_episodes(rows, time_limit, path)
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], notes)
