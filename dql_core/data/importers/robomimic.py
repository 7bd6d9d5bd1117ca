"""Demonstrations of robomimic: HDF5 with a group for each, ``data/demo_i``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dql_core.data.hdf5_arrays import Hdf5File, open_hdf5
from dql_core.data.importers.files import (
    Arrays,
    FileContent,
    budget_of,
    flags,
    flat_rows,
    require_continuous,
    require_rows,
    spec_of_parts,
)
from dql_core.data.importers.rows import Rows, cut_episodes, without_rests
from dql_core.errors import DatasetError, did_you_mean, listed

_DEMO = re.compile(r"demo_(\d{1,9})")


def read_robomimic(
    path: Path, time_limit: int | None = None, observations: Sequence[str] = ()
) -> FileContent:
    """Read obs, actions, rewards, dones and, where there are, next_obs of each demonstration.

    ``dones`` are terminations, as in robomimic's own algorithms. What a demonstration goes on with
    after its first one is left out.

    Args:
        path: The file.
        time_limit: As for `cut_episodes`.
        observations: The arrays of ``obs`` that make an observation, in this order; without any,
            all that are rows of floats, by name.

    Raises:
        DatasetError: If the file is of another kind, or cannot be learned from.
    """
    with open_hdf5(path, budget_of(path)) as file:
        demos = _demos(file, path)
        first = ("data", demos[0], "obs")
        if not file.has(*first):
            raise DatasetError(
                f"{path}: '{'/'.join(first)}' is missing: the file has states only; make "
                f"observations of them with robomimic's dataset_states_to_obs.py"
            )
        there = file.names_in(*first)
        chosen = tuple(observations) or tuple(name for name in there if _is_low(file, first, name))
        for name in chosen:
            if name not in there:
                raise DatasetError(f"{path}: holds no 'obs/{name}'{did_you_mean(name, there)}")
        if not chosen:
            raise DatasetError(
                f"{path}: 'obs' has no rows of floats, but {listed(there)}: images are not read"
            )
        read = [_demo(file, path, demo, chosen) for demo in demos]
    arrays = {name: np.concatenate([each[name] for each in read]) for name in read[0]}
    return _content(
        path, arrays, [len(each["actions"]) for each in read], chosen, there, time_limit
    )


def _content(
    path: Path,
    arrays: Arrays,
    lengths: Sequence[int],
    chosen: Sequence[str],
    there: Sequence[str],
    time_limit: int | None,
) -> FileContent:
    observed = [(name, arrays[f"obs/{name}"]) for name in chosen]
    actions = arrays["actions"]
    for _, array in observed:
        require_continuous(path, array, actions)
    following = [arrays[f"next_obs/{name}"] for name in chosen if f"next_obs/{name}" in arrays]
    ends = np.zeros(len(actions), dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    rows = Rows(
        observations=_joined([array for _, array in observed]),
        actions=flat_rows(actions),
        rewards=arrays["rewards"].reshape(-1).astype(np.float64),
        terminals=flags(path, "dones", arrays["dones"].reshape(-1)),
        ends=ends,
        ends_name="dones",
        next_observations=_joined(following) if len(following) == len(chosen) else None,
        of_one_episode=True,
    )
    notes = []
    if rows.terminals[ends].all():
        notes.append(
            f"all {len(lengths)} demonstrations end with a done: terminated, as robomimic takes "
            f"them, also where only the recording ended; with --time-limit those that reach it "
            f"are truncated"
        )
    rows, rests = without_rests(rows)
    episodes, more = cut_episodes(rows, time_limit, path)
    others = [name for name in there if name not in chosen]
    if others:
        notes.append(f"left out of 'obs': {listed(others)}")
    return FileContent(
        episodes,
        (rows.observations.shape[1],),
        actions.shape[1:],
        (*notes, *rests, *more),
        spec=spec_of_parts(path.stem, observed, actions),
    )


def _demos(file: Hdf5File, path: Path) -> list[str]:
    """Return the names of the demonstrations in the order of their numbers."""
    names = file.names_in("data") if file.has("data") else []
    found = [(int(match[1]), name) for name in names if (match := _DEMO.fullmatch(name))]
    if not found:
        raise DatasetError(f"{path}: holds no 'data/demo_0'; is --format right?")
    return [name for _, name in sorted(found)]


def _is_low(file: Hdf5File, group: Sequence[str], name: str) -> bool:
    """Whether an array is rows of floats, and no image."""
    kind, axes = file.kind(*group, name)
    return kind == "f" and axes <= 2


def _demo(file: Hdf5File, path: Path, demo: str, chosen: Sequence[str]) -> Arrays:
    arrays = {name: file.array("data", demo, name) for name in ("actions", "rewards", "dones")}
    arrays |= {f"obs/{name}": file.array("data", demo, "obs", name) for name in chosen}
    if file.has("data", demo, "next_obs"):
        for name in chosen:
            arrays[f"next_obs/{name}"] = file.array("data", demo, "next_obs", name)
    count = len(arrays["actions"]) if arrays["actions"].ndim else 0
    if not count:
        raise DatasetError(f"{path}: '{demo}' holds no actions")
    named = {f"{demo}/{name}": array for name, array in arrays.items()}
    require_rows(path, count, **named)
    return arrays


def _joined(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
    return np.concatenate([flat_rows(part) for part in parts], axis=1)
