"""Replay buffers of the Diffusion Policy family: zarr stores of rows, cut by ``episode_ends``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dql_core.data.importers.files import (
    FileContent,
    flat_rows,
    require_continuous,
    require_rows,
    single_numbers,
    spec_of_parts,
)
from dql_core.data.importers.rows import Rows, cut_episodes
from dql_core.data.importers.zarr_arrays import open_zarr
from dql_core.errors import DatasetError, did_you_mean, listed

STATE, ACTION, ENDS = "state", "action", "episode_ends"
_STATES, _REWARDS = (STATE, "obs"), ("reward", "rewards")


def read_replay_buffer(
    path: Path, time_limit: int | None = None, observations: Sequence[str] = ()
) -> FileContent:
    """Read ``data/state`` (or ``data/obs``), ``data/action`` and ``meta/episode_ends``.

    The stores hold demonstrations: rarely rewards, and nothing on how an episode ended.

    Args:
        path: The zarr store, a folder or a zip.
        time_limit: As for `cut_episodes`.
        observations: Arrays of ``data`` that make an observation, in this order.

    Raises:
        DatasetError: If it is of another kind, damaged, or cannot be learned from.
    """
    with open_zarr(path) as store:
        there = [name.removeprefix("data/") for name in store.arrays if name.startswith("data/")]
        chosen = tuple(observations) or _default(path, there)
        parts = [store.array(f"data/{name}") for name in chosen]
        actions = store.array(f"data/{ACTION}")
        stops = store.array(f"meta/{ENDS}")
        reward_name = next((name for name in _REWARDS if name in there), None)
        rewards = store.array(f"data/{reward_name}") if reward_name else None
        files = store.files
    for part in parts:
        require_continuous(path, part, actions)
    require_rows(path, len(actions), **dict(zip(chosen, parts, strict=True)))
    if rewards is not None:
        rewards = single_numbers(path, len(actions), reward=rewards)["reward"]
    rows = Rows(
        observations=np.concatenate(
            [flat_rows(path, name, part) for name, part in zip(chosen, parts, strict=True)], axis=1
        ),
        actions=flat_rows(path, ACTION, actions),
        rewards=np.zeros(len(actions)) if rewards is None else rewards.astype(np.float64),
        terminals=np.zeros(len(actions), dtype=bool),
        ends=_last_rows(path, stops, len(actions)),
        ends_name=ENDS,
    )
    episodes, notes = cut_episodes(rows, time_limit, path)
    ways = ["nothing says how an episode ended: all are truncated"]
    if rewards is None:
        ways.append("there are no rewards: all are 0, for agent: diffusion_bc; see dql relabel")
    others = [name for name in there if name not in {*chosen, ACTION, reward_name}]
    if others:
        ways.append(f"left out: {listed(others)}; --observations names what is observed")
    observed = list(zip(chosen, parts, strict=True))
    return FileContent(
        episodes,
        (rows.observations.shape[1],),
        actions.shape[1:],
        (*ways, *notes),
        spec=spec_of_parts(path.name.partition(".")[0], observed, actions),
        has_rewards=rewards is not None,
        files=files,
    )


def _default(path: Path, there: Sequence[str]) -> tuple[str]:
    for name in _STATES:
        if name in there:
            return (name,)
    raise DatasetError(
        f"{path}: holds no 'data/{STATE}'{did_you_mean(STATE, there)}; name the arrays that make "
        f"an observation with --observations"
    )


def _last_rows(path: Path, stops: NDArray[np.generic], count: int) -> NDArray[np.bool_]:
    """Mark the row before each stop."""
    is_sound = stops.ndim == 1 and stops.dtype.kind in "iu" and len(stops)
    numbers = stops.astype(np.int64) if is_sound else np.zeros(1, np.int64)
    if not is_sound or numbers[0] < 1 or np.any(np.diff(numbers) < 1) or numbers[-1] != count:
        raise DatasetError(
            f"{path}: '{ENDS}' are not rising numbers up to {count}, the number of actions; the "
            f"file is damaged or of another format"
        )
    ends = np.zeros(count, dtype=bool)
    ends[numbers - 1] = True
    return ends
