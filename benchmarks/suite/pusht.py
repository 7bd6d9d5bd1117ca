"""The human demonstrations of PushT as rows of a flat file.

The recording holds states and actions, no rewards. What an action earned is the covered share of
the goal in the next recorded state. What followed the last action of a demonstration is not
recorded: the simulation repeats the demonstration, through the recorded states and a step further.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.flat_file import Rows, joined
from benchmarks.suite.pusht_env import PushT, scaled_action, scaled_state
from dql_core.data.importers.zarr_arrays import read_zarr
from dql_core.errors import ConfigError

# Of scaled states, a pixel: how far off a repeated demonstration may end. One of 206 ends further,
# which starts with agent and block in contact.
TOLERANCE = 1 / 256


def read_demonstrations(path: Path) -> Rows:
    """Read the demonstrations and repeat them.

    Raises:
        ConfigError: If the extra ``suite`` is not installed.
        DatasetError: If the file is damaged.
    """
    names = ("data/state", "data/action", "meta/episode_ends")
    states, actions, ends = read_zarr(path, names)
    try:
        env = PushT()
    except ImportError as cause:
        raise ConfigError(f"pusht: {cause}; install the extra: pip install -e .[suite]") from cause
    first, parts = 0, []
    for stop in ends.tolist():
        parts.append(rows_of(env, states[first:stop], actions[first:stop]))
        first = stop
    return joined(parts)


def rows_of(env: PushT, states: NDArray[Any], actions: NDArray[Any]) -> Rows:
    """Return the rows of one demonstration, which never succeed before the last one.

    The last action is left out where the repeated demonstration ends elsewhere.

    Args:
        env: Simulates it.
        states: In pixels and radians, shape (T, 5).
        actions: In pixels, shape (T, 2).
    """
    observations, taken = scaled_state(states), scaled_action(actions)
    env.set_state(states[0])
    before = observations[0]
    for action in taken[:-1]:
        before, *_ = env.step(action)
    following, reward, terminated, _, _ = env.step(taken[-1])
    # Where the angle passes a full turn, the scaled one jumps from 1 to -1.
    apart = np.abs((before - observations[-1] + 1.0) % 2.0 - 1.0).max()
    count = len(states) if apart <= TOLERANCE else len(states) - 1
    rewards = np.array([*(env.reward_in(state) for state in states[1:]), reward], np.float32)
    last = np.arange(count) == count - 1
    terminals = last & (terminated and count == len(states))
    return Rows(
        observations[:count],
        taken[:count],
        rewards[:count],
        np.concatenate([observations[1:], following[None]])[:count],
        terminals,
        last & ~terminals,
    )
