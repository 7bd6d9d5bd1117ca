"""From a Minari dataset to a LeRobot dataset of version 3.0, which LeRobot's own reader loads.

Source: LeRobot's ``LeRobotDataset.create``, ``add_frame`` and ``save_episode`` (0.4), which write
Parquet files for frames, episodes and tasks, and ``info.json`` and ``stats.json`` about them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.data.dataset import (
    Episode,
    LoadedDataset,
    find_dataset,
    load_dataset,
    require_outside,
)
from dql_core.data.episode_reader import HDF5_FILE, episode_files, read_table
from dql_core.data.hdf5_arrays import MemoryBudget, open_hdf5
from dql_core.data.importers.lerobot import ACTION, DONE, NEXT_STATE, REWARD, STATE, TRUNCATED
from dql_core.data.importers.lerobot_meta import INFO_FILE
from dql_core.data.metadata import has_rewards, read_metadata
from dql_core.errors import ConfigError, DatasetError, counted, listed
from dql_core.files import atomic_directory
from dql_core.spec import MAX_RATE_HZ, FieldSpec, PolicySpec

VERSION = "v3.0"
CHUNK_FILES, FILE_MB, VIDEO_MB = 1000, 100, 200
_FILE = "chunk-{chunk:03d}/file-{file:03d}.parquet"
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LeRobotExport:
    """What was written.

    Attributes:
        episodes: Number of episodes.
        frames: Number of frames, which is that of transitions.
        rate_hz: Frames a second.
        task: What every episode is said to be of.
        left_out: What the format cannot carry, one line each.
    """

    episodes: int
    frames: int
    rate_hz: float
    task: str
    left_out: tuple[str, ...]


def write_lerobot(
    source: str | Path, directory: Path, *, task: str = "", fps: float | None = None
) -> LeRobotExport:
    """Write a dataset as LeRobot's version 3.0; it appears whole or not at all.

    A frame is a transition: what was observed, the action, and as ``next.…`` what came of it. With
    ``next.observation.state`` the observation after the last action is kept, which LeRobot's own
    recordings do not have, and ``next.truncated`` tells a termination from a truncation.

    Args:
        source: As for `load_dataset`.
        directory: The folder to make.
        task: What was done, in words; by default the robot's name.
        fps: Frames a second, where the dataset does not say its rate.

    Raises:
        ConfigError: If the rate is unknown, or given although it is known; or a text is none.
        DatasetError: If the dataset cannot be read, or ``directory`` holds something, or lies
            inside the dataset.
        OutputError: If it cannot be written.
    """
    dataset = load_dataset(source, bounds_matter=False)
    require_outside(directory.absolute(), find_dataset(source).absolute(), source)
    rate_hz = _rate(dataset, fps)
    task = task or dataset.spec.robot
    _require_texts(task, dataset.spec)
    is_rewarded = has_rewards(dataset.metadata)
    features = _features(dataset, is_rewarded)
    with atomic_directory(directory, error=DatasetError) as folder:
        stats = _Statistics()
        places = _write_frames(folder, dataset.episodes, features, rate_hz, stats)
        _write_episodes(folder, places, task, stats)
        _write_task(folder / "meta/tasks.parquet", task)
        _write_json(folder / "meta/stats.json", stats.of_all())
        _write_json(folder / INFO_FILE, _info(dataset, features, rate_hz))
    left_out = (*_left_out(source, dataset), *stats.unknown())
    return LeRobotExport(len(dataset.episodes), dataset.num_transitions, rate_hz, task, left_out)


def _rate(dataset: LoadedDataset, fps: float | None) -> float:
    known = dataset.spec.rate_hz
    if known and fps is not None:
        raise ConfigError(f"{dataset.source}: is recorded at {known:g} Hz; leave --fps out")
    if not known and fps is None:
        raise ConfigError(
            f"{dataset.source}: does not say its control rate, and LeRobot's format needs one; "
            f"give --fps"
        )
    if fps is not None and not 0 < fps <= MAX_RATE_HZ:
        raise ConfigError(f"--fps is {fps:g}; give a rate above 0, {MAX_RATE_HZ:g} at most")
    return known or float(fps or 0)


def _require_texts(task: str, spec: PolicySpec) -> None:
    """Refuse what no file of texts can hold, such as half of a pair of UTF-16."""
    names = (field.name for field in (*spec.observation, *spec.action))
    for text in (task, spec.robot, *names):
        try:
            text.encode()
        except UnicodeEncodeError as cause:
            raise ConfigError(
                f"{text!r:.80} holds what is no character, and cannot be written as a task or "
                f"name; give another --task, or convert with other names"
            ) from cause


def _features(dataset: LoadedDataset, is_rewarded: bool) -> dict[str, dict[str, Any]]:
    """Describe each column as ``info.json`` does."""

    def numbers(dtype: str, fields: Sequence[FieldSpec] = ()) -> dict[str, Any]:
        names = [field.name for field in fields] or None
        return {"dtype": dtype, "shape": [len(fields) or 1], "names": names}

    spec = dataset.spec
    # LeRobot reads float64 as float32, and `dql import` as it is.
    dtypes = {str(episode.rewards.dtype) for episode in dataset.episodes}
    reward = "float32" if dtypes == {"float32"} else "float64"
    return {
        STATE: numbers("float32", spec.observation),
        ACTION: numbers("float32", spec.action),
        NEXT_STATE: numbers("float32", spec.observation),
        **({REWARD: numbers(reward)} if is_rewarded else {}),
        DONE: numbers("bool"),
        TRUNCATED: numbers("bool"),
        "timestamp": numbers("float32"),
        **{
            name: numbers("int64")
            for name in ("frame_index", "episode_index", "index", "task_index")
        },
    }


def _frames(number: int, first: int, episode: Episode, rate_hz: float) -> dict[str, NDArray[Any]]:
    """Return the columns of one episode of T transitions, T rows each.

    Args:
        number: The episode's.
        first: Number of frames before it.
        episode: The episode.
        rate_hz: Frames a second.
    """
    count = len(episode)
    steps, is_last = np.arange(count), np.arange(count) == count - 1
    return {
        STATE: episode.observations[:-1],
        ACTION: episode.actions,
        NEXT_STATE: episode.observations[1:],
        REWARD: episode.rewards,
        DONE: is_last,
        TRUNCATED: is_last & (not episode.terminated),
        "timestamp": (steps / rate_hz).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(count, number),
        "index": steps + first,
        "task_index": np.zeros(count, np.int64),
    }


@dataclass(frozen=True)
class _Place:
    """Where an episode's frames are."""

    chunk: int
    file: int
    first: int
    length: int


def _write_frames(
    folder: Path,
    episodes: Iterable[Episode],
    features: Mapping[str, dict[str, Any]],
    rate_hz: float,
    stats: _Statistics,
) -> list[_Place]:
    """Write the frames of all episodes, in files of `FILE_MB` at most but for a longer episode."""
    places: list[_Place] = []
    first, size = 0, 0
    schema = pa.schema([(name, _arrow_type(each)) for name, each in features.items()])
    with ExitStack() as files:
        chunk, file, writer = 0, -1, None
        for number, episode in enumerate(episodes):
            columns = _frames(number, first, episode, rate_hz)
            columns = {name: columns[name] for name in features}
            stats.add(columns)
            table = pa.table(
                [_arrow(columns[name], schema.field(name).type) for name in features], schema
            )
            if writer is None or size + table.nbytes > FILE_MB << 20:
                files.close()
                chunk, file = (chunk, file + 1) if file + 1 < CHUNK_FILES else (chunk + 1, 0)
                path = folder / "data" / _FILE.format(chunk=chunk, file=file)
                path.parent.mkdir(parents=True, exist_ok=True)
                file_object = files.enter_context(path.open("wb"))  # whatever its name is
                writer = files.enter_context(pa.parquet.ParquetWriter(file_object, schema))
                size = 0
            writer.write_table(table)
            size += table.nbytes
            places.append(_Place(chunk, file, first, len(episode)))
            first += len(episode)
    return places


def _arrow_type(feature: Mapping[str, Any]) -> pa.DataType:
    """Return the type that `datasets.Sequence` of a fixed length, or `datasets.Value`, has."""
    number = pa.from_numpy_dtype(np.dtype(feature["dtype"]))
    (width,) = feature["shape"]
    return number if width == 1 else pa.list_(number, width)


def _arrow(column: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(column.reshape(-1), kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), type=kind)


class _Statistics:
    """Least, largest, mean, spread and quantiles of each column, by episode and of all."""

    def __init__(self) -> None:
        self._columns: dict[str, list[NDArray[Any]]] = {}

    def add(self, columns: Columns) -> None:
        """Take the columns of one more episode."""
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column)

    def of_episode(self, number: int) -> dict[str, Any]:
        """Return the statistics of one episode by ``stats/COLUMN/NAME``."""
        return {
            f"stats/{name}/{key}": value
            for name, parts in self._columns.items()
            for key, value in _summary(parts[number]).items()
        }

    def of_all(self) -> dict[str, dict[str, list[float]]]:
        """Return the statistics of all frames by column."""
        return {name: _summary(np.concatenate(parts)) for name, parts in self._columns.items()}

    def unknown(self) -> list[str]:
        """Say of which columns there are no statistics; without any, say nothing."""
        names = [
            name
            for name, parts in self._columns.items()
            if not all(np.isfinite(part).all() for part in parts)
        ]
        if not names:
            return []
        return [f"statistics of {listed(names)}: there are values that are NaN or infinite"]


def _summary(column: NDArray[Any]) -> dict[str, list[float]]:
    rows = column.reshape(len(column), -1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # which `unknown` tells
        found = {
            "min": rows.min(axis=0),
            "max": rows.max(axis=0),
            "mean": rows.mean(axis=0),
            "std": rows.std(axis=0),
            "count": np.array([len(rows)]),
        }
        quantiles = np.quantile(rows, list(_QUANTILES.values()), axis=0)
    found |= dict(zip(_QUANTILES, quantiles, strict=True))
    return {name: value.tolist() for name, value in found.items()}


def _write_episodes(folder: Path, places: Sequence[_Place], task: str, stats: _Statistics) -> None:
    rows = [
        {
            "episode_index": number,
            "tasks": [task],
            "length": place.length,
            "data/chunk_index": place.chunk,
            "data/file_index": place.file,
            "dataset_from_index": place.first,
            "dataset_to_index": place.first + place.length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **stats.of_episode(number),
        }
        for number, place in enumerate(places)
    ]
    path = folder / "meta/episodes" / _FILE.format(chunk=0, file=0)
    path.parent.mkdir(parents=True)
    _write_table(path, pa.Table.from_pylist(rows))


def _write_task(path: Path, task: str) -> None:
    """Write the one task as pandas writes a frame of numbers whose index are the texts."""
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": kind,
                "numpy_type": numpy,
                "metadata": None,
            }
            for name, kind, numpy in (
                ("task_index", "int64", "int64"),
                ("task", "unicode", "object"),
            )
        ],
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": [0], "task": [task]})
    _write_table(path, table.replace_schema_metadata({"pandas": json.dumps(about)}))


def _write_table(path: Path, table: pa.Table) -> None:
    with path.open("wb") as file:  # Arrow takes no name that is not UTF-8
        pa.parquet.write_table(table, file)


def _info(
    dataset: LoadedDataset, features: Mapping[str, dict[str, Any]], rate_hz: float
) -> dict[str, Any]:
    count = len(dataset.episodes)
    return {
        "codebase_version": VERSION,
        "robot_type": dataset.spec.robot,
        "total_episodes": count,
        "total_frames": dataset.num_transitions,
        "total_tasks": 1,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": int(rate_hz) if rate_hz.is_integer() else rate_hz,
        "splits": {"train": f"0:{count}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": features,
    }


def _write_json(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=4, ensure_ascii=False), encoding="utf-8")


def _left_out(source: str | Path, dataset: LoadedDataset) -> Iterator[str]:
    """Name what the dataset has and the format has no place for."""
    spec, folder = dataset.spec, find_dataset(source).absolute()
    yield (
        "bounds of the actions and observations: give those of the actions to dql import with "
        "--low and --high"
    )
    fields = (*spec.observation, *spec.action)
    if units := sum(bool(field.unit) for field in fields):
        yield f"units of {counted(units, 'field')}"
    if rates := sum(np.isfinite(field.max_rate) for field in fields):
        yield f"the largest change in a second of {counted(rates, 'action field')}"
    stored = read_metadata(folder, dataset.source, bounds_matter=False)
    for kind, space in (
        ("observations", stored.observation_space),
        ("actions", stored.action_space),
    ):
        if not isinstance(space, Box) or len(space.shape) != 1 or space.dtype != np.float32:
            yield f"the form of the {kind}: they are rows of float32"
    if names := _infos(folder, stored.data_format):
        yield f"infos: {listed(names)}"
    if spec.contract_hash:
        yield (
            f"the contract {spec.contract_hash[:12]}: a policy trained on what is imported again "
            f"does not fit it"
        )
    keys = sorted(key for key in dataset.metadata if key not in _STRUCTURE)
    if keys:
        yield f"the dataset's metadata: {listed(keys, 12)}"


def _infos(folder: Path, data_format: str) -> list[str]:
    """Return the names of the infos that the first episode has."""
    if data_format == "hdf5":
        with open_hdf5(folder / HDF5_FILE, MemoryBudget()) as opened:
            is_there = opened.has("episode_0", "infos")
            return opened.names_in("episode_0", "infos") if is_there else []
    first = episode_files(folder, "0", data_format)[0]
    schema = read_table(first, data_format, MemoryBudget()).schema
    index = schema.get_field_index("infos")
    return [] if index < 0 else [part.name for part in schema.field(index).type]


# Of the metadata, what describes the storing, or is carried.
_STRUCTURE = {
    "action_space",
    "algorithm_name",
    "data_format",
    "dataset_id",
    "dataset_size",
    "jpeg_encoding",
    "minari_version",
    "observation_space",
    "total_episodes",
    "total_steps",
    "dql_no_rewards",
    "dql_policy_spec",
    "dql_contract",
}
