"""Datasets of LeRobot, versions 2.0, 2.1 and 3.0: numbers as Parquet, one row a frame.

A frame holds what was observed, the action taken there, and under ``next.…`` what came of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from dql_core.data.episode_reader import read_table
from dql_core.data.hdf5_arrays import MemoryBudget
from dql_core.data.importers.files import (
    FileContent,
    flags,
    flat_rows,
    following_rows,
    numbered,
    require_continuous,
)
from dql_core.data.importers.lerobot_meta import (
    IMAGES,
    Feature,
    Meta,
    parquet_files,
    read_meta,
    task_texts,
)
from dql_core.data.importers.rows import Rows, cut_episodes, without_rests
from dql_core.errors import DatasetError, counted, did_you_mean, listed, one_line
from dql_core.spec import FieldSpec, PolicySpec

STATE, ACTION, NEXT_STATE = "observation.state", "action", "next.observation.state"
REWARD, DONE, TRUNCATED = "next.reward", "next.done", "next.truncated"
# As LeRobot calls them, and then as people do.
_STATES, _ACTIONS = (STATE, "state"), (ACTION, "actions")
_REWARDS, _DONES = (REWARD, "reward"), (DONE, "done")
_SUCCESSES = ("next.success", "success", "is_episode_successful")
_INDEX = ("episode_index", "frame_index", "task_index", "timestamp")
# How far the stamps may be from the stated rate, as a share of a period.
_STAMP_TOLERANCE = 0.05
Arrays = Mapping[str, NDArray[Any]]


def read_lerobot(
    path: Path, time_limit: int | None = None, observations: Sequence[str] = ()
) -> FileContent:
    """Read a LeRobot dataset's numbers; videos and images are left out and counted.

    Args:
        path: Its folder, which holds ``meta`` and ``data``.
        time_limit: As for `cut_episodes`.
        observations: The features that make an observation, in this order; without any
            ``observation.state``, or ``state``.

    Raises:
        DatasetError: If a file is missing, damaged or a pointer of Git LFS, or the features
            cannot be learned from.
    """
    budget = MemoryBudget()
    meta = read_meta(path, budget)
    remedy = "name the features that make an observation with --observations"
    chosen = tuple(observations) or (_one_of(_STATES, meta, path, remedy),)
    features = [_numeric(name, meta, path) for name in chosen]
    action_name = _one_of(_ACTIONS, meta, path, "without actions nothing can be learned")
    action_feature = _numeric(action_name, meta, path)
    frames, files = _read_frames(path, meta, (*chosen, action_name), budget)
    actions = frames.columns[action_name]
    for name in chosen:
        require_continuous(path, frames.columns[name], actions)
    observed = np.concatenate(
        [flat_rows(path, name, frames.columns[name]) for name in chosen], axis=1
    )
    ends, notes = _ends(frames, meta, path)
    following = frames.columns.get(NEXT_STATE) if chosen == (STATE,) else None
    rows = Rows(
        observations=observed,
        actions=flat_rows(path, action_name, actions),
        rewards=ends.rewards,
        terminals=ends.terminals,
        ends=frames.is_last,
        ends_name="episode_index",
        next_observations=None
        if following is None
        else following_rows(path, NEXT_STATE, following, observed),
        of_one_episode=True,
    )
    rows, rest_notes = without_rests(rows)
    episodes, more_notes = cut_episodes(rows, time_limit, path)
    notes = [
        *_left_out(meta, path, (*chosen, action_name)),
        *_task_notes(path, meta, frames, budget),
        *_stamp_notes(frames, meta),
        *notes,
        *rest_notes,
        *more_notes,
    ]
    spec = PolicySpec(
        robot=meta.robot or path.name,
        rate_hz=meta.rate_hz,
        observation=tuple(_fields("observation", chosen, features)),
        action=tuple(_fields("action", (action_name,), [action_feature])),
    )
    widths = (observed.shape[1],), (rows.actions.shape[1],)
    return FileContent(
        episodes, *widths, tuple(notes), spec, ends.has_rewards, (*meta.files, *files)
    )


def _one_of(names: Sequence[str], meta: Meta, path: Path, remedy: str) -> str:
    for name in names:
        if name in meta.features:
            return name
    raise DatasetError(
        f"{path}: has no feature '{names[0]}'{did_you_mean(names[0], _numbers_in(meta))}; {remedy}"
    )


def _numbers_in(meta: Meta) -> list[str]:
    apart = {*IMAGES, "string"}
    return [name for name, each in meta.features.items() if each.dtype not in apart]


def _numeric(name: str, meta: Meta, path: Path) -> Feature:
    if name not in meta.features:
        known = did_you_mean(name, _numbers_in(meta))
        raise DatasetError(f"{path}: has no feature '{name}'{known}")
    feature = meta.features[name]
    if feature.dtype in IMAGES or feature.dtype == "string":
        raise DatasetError(f"{path}: the feature '{name}' is of {feature.dtype}s, not of numbers")
    return feature


def _fields(kind: str, names: Sequence[str], features: Sequence[Feature]) -> Sequence[FieldSpec]:
    """Name each number: by the dataset's own names where it has them and they are unlike."""
    own = [each for feature in features for each in feature.names]
    if all(feature.names for feature in features) and len(own) == len(set(own)):
        return [FieldSpec(name) for name in own]
    fields: list[FieldSpec] = []
    for name, feature in zip(names, features, strict=True):
        place = name if len(names) > 1 else kind
        named = [FieldSpec(f"{place}.{own}") for own in feature.names]
        fields += named or numbered(place, feature.shape)
    return fields


@dataclass(frozen=True)
class _Frames:
    """All N frames, by episode and within it by time.

    Attributes:
        columns: By feature, N rows each.
        episodes: Which episode each frame is of, shape (N,).
        is_last: Whether it is the last one of its episode, shape (N,).
    """

    columns: Arrays
    episodes: NDArray[np.int64]
    is_last: NDArray[np.bool_]


def _read_frames(
    path: Path, meta: Meta, needed: Sequence[str], budget: MemoryBudget
) -> tuple[_Frames, list[Path]]:
    """Read the frames and put them in order; also return the files that hold them."""
    files = parquet_files(path, "data")
    wanted = [*needed, NEXT_STATE, *_REWARDS, *_DONES, TRUNCATED, *_SUCCESSES, *_INDEX]
    parts = [_read_file(file, meta, wanted, budget) for file in files]
    shared = set.intersection(*(set(part) for part in parts))
    for name in (*needed, "frame_index"):
        if name not in shared:
            raise DatasetError(f"{path / 'data'}: a file has no column '{name}'")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in sorted(shared)}
    numbers, steps = columns["episode_index"], columns["frame_index"]
    order = np.lexsort((steps, numbers))
    columns = {name: column[order] for name, column in columns.items()}
    numbers, steps = columns["episode_index"], columns["frame_index"]
    _require_all_frames(path, meta, numbers, steps)
    is_last = np.append(numbers[1:] != numbers[:-1], True)
    return _Frames(columns, numbers, is_last), files


def _read_file(
    file: Path, meta: Meta, wanted: Sequence[str], budget: MemoryBudget
) -> dict[str, NDArray[Any]]:
    """Read the wanted columns of a file that are there; a single number as an axis less."""
    try:
        names = pa.parquet.read_schema(file).names
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"it has the column '{twice[0]:.80}' twice")
        chosen = [name for name in dict.fromkeys(wanted) if name in names]
        table = read_table(file, "parquet", budget, tuple(chosen))
        table.validate(full=True)  # else a damaged file leads out of its own memory
        columns = {name: _column(table[name].combine_chunks(), name) for name in chosen}
    except (OSError, ValueError, pa.ArrowException) as cause:
        raise DatasetError(f"{file}: not a readable Parquet file: {one_line(cause)}") from cause
    count = table.num_rows
    for name, column in columns.items():
        shape = meta.features[name].shape if name in meta.features else (1,)
        width = math.prod(shape)
        if column.size != count * width:
            raise DatasetError(
                f"{file}: '{name}' has {column.size} numbers in {count} frames, and "
                f"meta/info.json says {list(shape)} a frame"
            )
        if name not in _SCALARS:
            columns[name] = column.reshape(count, width)
        elif width != 1:
            raise DatasetError(
                f"{file}: '{name}' has {width} numbers a frame, and one is needed; leave the "
                f"feature out"
            )
    if "episode_index" not in columns:  # a file an episode, whose name has the number
        digits = "".join(filter(str.isdigit, file.stem))[-9:]
        if not digits:
            raise DatasetError(f"{file}: has neither 'episode_index' nor a number in its name")
        columns["episode_index"] = np.full(count, int(digits))
    columns.setdefault("frame_index", np.arange(count))
    return columns


_SCALARS = {*_INDEX, *_REWARDS, *_DONES, TRUNCATED, *_SUCCESSES}


def _column(array: pa.Array, name: str) -> NDArray[Any]:
    """Return the numbers of a column of numbers, or of lists of them, one after the other."""
    if array.null_count:
        raise ValueError(f"'{name}' has {array.null_count} empty rows")
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):  # as of `datasets.Array2D`
        return _column(array.storage, name)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = array.value_lengths()
        if len(array) and pa.compute.min(lengths) != pa.compute.max(lengths):
            raise ValueError(f"'{name}' is not as long in every row")
        return _column(array.flatten(), name)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"'{name}' is of {kind}, not of numbers")
    numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers


def _require_all_frames(
    path: Path, meta: Meta, numbers: NDArray[np.int64], steps: NDArray[np.int64]
) -> None:
    """Refuse a dataset of which a part is missing or there twice."""
    found, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
    there = dict(zip(found.tolist(), counts.tolist(), strict=True))
    jumps = np.flatnonzero(np.diff(steps) != 1)
    jumps = jumps[~np.isin(jumps + 1, firsts)]
    if len(jumps):
        raise DatasetError(
            f"{path}: episode {numbers[jumps[0]]} goes on after its frame {steps[jumps[0]]} with "
            f"frame {steps[jumps[0] + 1]}: a part is missing or twice there; download it again"
        )
    for number in sorted({*there, *meta.episodes}):
        stated = meta.episodes[number].length if number in meta.episodes else 0
        if there.get(number, 0) != stated:
            raise DatasetError(
                f"{path}: episode {number} has {counted(there.get(number, 0), 'frame')} in 'data' "
                f"and {stated} in 'meta'; a part is missing: download the dataset again"
            )


@dataclass(frozen=True)
class _Ends:
    rewards: NDArray[np.float64]
    terminals: NDArray[np.bool_]
    has_rewards: bool


def _ends(frames: _Frames, meta: Meta, path: Path) -> tuple[_Ends, list[str]]:
    """Say what each frame earned and where the task itself ended, with notes on both.

    `next.done` without `next.truncated` ends the task. Where only one of the two is there, a
    success in an episode's last frame does; where nothing tells of successes, `next.done`, unless
    every episode ends with it, as in most recordings: then it only says that these ended.
    """
    last, notes = frames.is_last, []
    success = _success(frames, meta, path)
    done = _flags(_DONES, frames, path)
    truncated = _flags((TRUNCATED,), frames, path)
    if done is not None and truncated is not None:
        terminals = done & ~truncated
    elif success is not None:
        terminals = last & success
        notes.append(
            f"{counted(int(terminals.sum()), 'episode')} of {last.sum()} succeeded in the last "
            f"frame: terminated, the others truncated"
        )
    elif done is not None and not done[last].all():
        terminals = done
    else:
        terminals = np.zeros_like(last)
        notes.append(
            "every episode ends with 'next.done', which does not say whether the task or only the "
            "recording ended: all are truncated"
            if done is not None
            else "nothing says whether an episode succeeded or how it ended: all are truncated"
        )
    for name in _REWARDS:
        if name in frames.columns:
            return _Ends(frames.columns[name].astype(np.float64), terminals, True), notes
    if success is not None:
        notes.append("there are no rewards: the last step of an episode that succeeded earns 1")
        return _Ends((last & success).astype(np.float64), terminals, True), notes
    notes.append("there are no rewards ('next.reward'): all are 0, for agent: diffusion_bc")
    return _Ends(np.zeros(len(last)), terminals, False), notes


def _success(frames: _Frames, meta: Meta, path: Path) -> NDArray[np.bool_] | None:
    of_frames = _flags(_SUCCESSES, frames, path)
    if of_frames is not None:
        return of_frames
    said = {number: each.success for number, each in meta.episodes.items()}
    if None in said.values():
        return None
    return np.array([bool(said[number]) for number in frames.episodes.tolist()])


def _flags(names: Sequence[str], frames: _Frames, path: Path) -> NDArray[np.bool_] | None:
    for name in names:
        if name in frames.columns:
            return flags(path, name, frames.columns[name])
    return None


def _left_out(meta: Meta, path: Path, used: Sequence[str]) -> list[str]:
    notes = []
    images = [name for name, each in meta.features.items() if each.dtype in IMAGES]
    if images:
        count = sum(1 for _ in (path / "videos").rglob("*.mp4"))
        notes.append(
            f"left out: {counted(len(images), 'camera')} ({listed(images)}; "
            f"{counted(count, 'video file')} here), since observations are numbers"
        )
    known = {*used, *_SCALARS, NEXT_STATE, "index"}
    others = [
        f"{name} {list(each.shape)}"
        for name, each in meta.features.items()
        if name not in known and each.dtype not in IMAGES
    ]
    if others:
        notes.append(
            f"left out: {listed(others)}; --observations names the features that make an "
            f"observation, now {', '.join(used[:-1])}"
        )
    return notes


def _task_notes(path: Path, meta: Meta, frames: _Frames, budget: MemoryBudget) -> list[str]:
    """Say what was to be done, which an observation does not hold."""
    tasks = Counter(task for each in meta.episodes.values() for task in dict.fromkeys(each.tasks))
    if not tasks and "task_index" in frames.columns:
        texts = task_texts(path, budget)
        found = np.unique(np.stack([frames.episodes, frames.columns["task_index"]]), axis=1)
        tasks = Counter(texts.get(index, f"number {index}") for index in found[1].tolist())
    if len(tasks) < 2:
        return [f"the task is: {task}" for task in tasks]
    texts_and_counts = [f"{task} ({count})" for task, count in tasks.most_common()]
    return [
        f"the episodes are of {len(tasks)} tasks, which an observation does not tell: "
        f"{listed(texts_and_counts)}"
    ]


def _stamp_notes(frames: _Frames, meta: Meta) -> list[str]:
    if "timestamp" not in frames.columns:
        return []
    apart = np.diff(frames.columns["timestamp"].astype(np.float64))[~frames.is_last[:-1]]
    off = np.abs(apart * meta.rate_hz - 1.0) > _STAMP_TOLERANCE
    if not off.any():
        return []
    return [
        f"{counted(int(off.sum()), 'frame')} of {len(off)} come more than "
        f"{_STAMP_TOLERANCE:.0%} off the rate of {meta.rate_hz:g} Hz: each is taken as one step"
    ]
