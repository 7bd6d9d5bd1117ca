"""Demonstrations of robomimic: HDF5 with a group for each, ``data/demo_i``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    following_rows,
    require_continuous,
    require_rows,
    single_numbers,
    spec_of_parts,
)
from dql_core.data.importers.rows import Rows, cut_episodes, without_rests
from dql_core.errors import DatasetError, counted, did_you_mean, listed

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
        read = {demo: _demo(file, path, demo, chosen) for demo in demos}
    return _content(path, read, chosen, there, time_limit)


def _content(
    path: Path,
    read: Mapping[str, Arrays],
    chosen: Sequence[str],
    there: Sequence[str],
    time_limit: int | None,
) -> FileContent:
    arrays, notes = _one_behind_the_other(path, read)
    lengths = [len(each["actions"]) for each in read.values()]
    observed = [(name, arrays[f"obs/{name}"]) for name in chosen]
    actions = arrays["actions"]
    single = {name: arrays[name] for name in ("rewards", "dones")}
    single = single_numbers(path, len(actions), **single)
    for _, array in observed:
        require_continuous(path, array, actions)
    rows_of = [(f"obs/{name}", array) for name, array in observed]
    following = [(name, array) for name, array in arrays.items() if name.startswith("next_obs/")]
    observations = _joined(path, rows_of)
    ends = np.zeros(len(actions), dtype=bool)
    ends[np.cumsum(lengths) - 1] = True
    rows = Rows(
        observations=observations,
        actions=flat_rows(path, "actions", actions),
        rewards=single["rewards"].astype(np.float64),
        terminals=flags(path, "dones", single["dones"]),
        ends=ends,
        ends_name="dones",
        next_observations=following_rows(path, "next_obs", _joined(path, following), observations)
        if following
        else None,
        of_one_episode=True,
    )
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


def _one_behind_the_other(path: Path, read: Mapping[str, Arrays]) -> tuple[Arrays, list[str]]:
    """Join the arrays of the demonstrations, with a note on those that some have not got."""
    first, *others = read
    for demo in others:
        for name, array in read[demo].items():
            row, needed = array.shape[1:], read[first].get(name, array).shape[1:]
            if row != needed:
                raise DatasetError(
                    f"{path}: '{demo}/{name}' has rows of shape {row}, and '{first}/{name}' of "
                    f"{needed}; leave one of them out, they are not of one robot"
                )
    with_next = sum(any(name.startswith("next_obs/") for name in each) for each in read.values())
    notes = []
    if with_next < len(read):
        read = {
            demo: {name: each[name] for name in each if not name.startswith("next_obs/")}
            for demo, each in read.items()
        }
    if 0 < with_next < len(read):
        notes.append(
            f"{counted(len(read) - with_next, 'demonstration')} of {len(read)} without next_obs: "
            f"those of the others are not used"
        )
    names = read[first]
    return {name: np.concatenate([each[name] for each in read.values()]) for name in names}, notes


def _joined(path: Path, parts: Sequence[tuple[str, NDArray[np.generic]]]) -> NDArray[np.float32]:
    return np.concatenate([flat_rows(path, name, part) for name, part in parts], axis=1)
