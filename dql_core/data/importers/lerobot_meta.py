"""What the folder ``meta`` of a LeRobot dataset says: features, episodes, tasks.

Source: LeRobot's dataset format, versions 2.0, 2.1 (JSON lines) and 3.0 (Parquet).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from dql_core.data.episode_reader import read_table
from dql_core.data.hdf5_arrays import MemoryBudget
from dql_core.data.importers.files import require_there
from dql_core.documents import MAX_JSON_BYTES, file_within, parse_json, read_bounded
from dql_core.errors import DatasetError, one_line
from dql_core.spec import MAX_RATE_HZ

INFO_FILE = "meta/info.json"
_EPISODES, _TASKS = "meta/episodes", "meta/tasks"
# Of these nothing is read, but they are counted.
IMAGES = {"video", "image"}


@dataclass(frozen=True)
class Feature:
    """One of the dataset's features.

    Attributes:
        dtype: NumPy's name of its numbers, or ``video``, ``image`` or ``string``.
        shape: Of one frame.
        names: One for each of its numbers; empty where it has none of use.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class RecordedEpisode:
    """What ``meta`` says of one episode.

    Attributes:
        length: Number of frames.
        tasks: What was to be done, in words.
        success: Whether it succeeded, if that is said.
    """

    length: int
    tasks: tuple[str, ...]
    success: bool | None = None


@dataclass(frozen=True)
class Meta:
    """What ``meta`` says.

    Attributes:
        version: 2 or 3.
        robot: The kind of robot; empty if unknown.
        rate_hz: Frames a second.
        features: By name, in their order.
        episodes: By number.
        files: What was read.
    """

    version: int
    robot: str
    rate_hz: float
    features: Mapping[str, Feature]
    episodes: Mapping[int, RecordedEpisode]
    files: tuple[Path, ...]


def read_meta(folder: Path, budget: MemoryBudget) -> Meta:
    """Read the meta files of a LeRobot dataset of version 2.0, 2.1 or 3.0.

    Raises:
        DatasetError: If one is missing, empty, damaged, or a pointer of Git LFS; or the dataset
            is of another version.
    """
    if folder.is_file():
        raise DatasetError(
            f"{folder}: a file; name the folder that holds {INFO_FILE}, or is --format wrong?"
        )
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; name the one that holds {INFO_FILE}")
    info_path = file_within(folder, INFO_FILE, DatasetError)
    info = parse_json(_content(info_path), str(info_path), DatasetError)
    version = _version(info, info_path)
    if version == 2:
        paths = [file_within(folder, f"{_EPISODES}.jsonl", DatasetError)]
        rows = list(_json_lines(paths[0]))
    else:
        paths = parquet_files(folder, _EPISODES)
        rows = [row for path in paths for row in _table_rows(path, budget)]
    rate_hz: Any = info.get("fps")
    is_number = isinstance(rate_hz, (int, float)) and not isinstance(rate_hz, bool)
    if not is_number or not 0 < rate_hz <= MAX_RATE_HZ:
        raise DatasetError(f"{info_path}: 'fps' is {rate_hz!r:.60}, not a rate above 0")
    robot = info.get("robot_type")
    return Meta(
        version=version,
        robot=robot if isinstance(robot, str) and robot != "unknown" else "",
        rate_hz=float(rate_hz),
        features=_features(info, info_path),
        episodes=_episodes(rows, paths[0]),
        files=(info_path, *paths),
    )


def parquet_files(folder: Path, under: str) -> list[Path]:
    """Return the Parquet files below a folder of the dataset, in their order.

    Raises:
        DatasetError: If there is none, or one is a link or of no use (see `require_there`).
    """
    found = sorted(path.relative_to(folder) for path in (folder / under).rglob("*.parquet"))
    if not found:
        raise DatasetError(f"{folder / under}: holds no .parquet file; download the dataset again")
    paths = [file_within(folder, str(name), DatasetError) for name in found]
    for path in paths:
        require_there(path)
    return paths


def task_texts(folder: Path, budget: MemoryBudget) -> dict[int, str]:
    """Return the tasks by number; none where the dataset has no file of tasks.

    Raises:
        DatasetError: If the file is damaged.
    """
    for name in (f"{_TASKS}.jsonl", f"{_TASKS}.parquet"):
        if not (folder / name).exists():
            continue
        path = file_within(folder, name, DatasetError)
        require_there(path)
        rows = _json_lines(path) if name.endswith("l") else _table_rows(path, budget)
        # pandas keeps the texts as the table's index.
        texts = ("task", "__index_level_0__")
        return {
            int(row["task_index"]): text
            for row in rows
            if type(row.get("task_index")) is int
            for text in (row.get(key) for key in texts)
            if isinstance(text, str)
        }
    return {}


def _content(path: Path) -> bytes:
    require_there(path)
    return read_bounded(path, MAX_JSON_BYTES, DatasetError)


def _version(info: Mapping[str, Any], path: Path) -> int:
    version = info.get("codebase_version")
    if version not in {"v2.0", "v2.1", "v3.0"}:
        raise DatasetError(
            f"{path}: is of version {version!r:.40} of LeRobot's format, and v2.0, v2.1 and v3.0 "
            f"are read; convert it with LeRobot's own scripts"
        )
    return int(str(version)[1])


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_content(path).splitlines(), start=1):
        if line.strip():
            yield parse_json(line, f"{path}: line {number}", DatasetError)


def _table_rows(path: Path, budget: MemoryBudget) -> list[dict[str, Any]]:
    """Return the rows of a small table, without the statistics of episodes."""
    wanted = {"episode_index", "length", "tasks", "success", "task_index", "task"}
    try:
        names = pa.parquet.read_schema(path).names
        chosen = [name for name in names if name in wanted or name == "__index_level_0__"]
        table = read_table(path, "parquet", budget, tuple(chosen))
        table.validate(full=True)
        rows: list[dict[str, Any]] = table.to_pylist()
    except (OSError, ValueError, pa.ArrowException) as cause:
        raise DatasetError(f"{path}: not a readable Parquet file: {one_line(cause)}") from cause
    return rows


def _features(info: Mapping[str, Any], path: Path) -> dict[str, Feature]:
    found = info.get("features")
    if not isinstance(found, dict) or not found:
        raise DatasetError(f"{path}: 'features' is missing or empty; download the dataset again")
    return {name: _feature(name, each, path) for name, each in found.items()}


def _feature(name: str, about: object, path: Path) -> Feature:
    shape = about.get("shape") if isinstance(about, dict) else None
    dtype = about.get("dtype") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(dtype, str) or not isinstance(shape, list):
        raise DatasetError(f"{path}: the feature '{name:.80}' has no 'dtype' and 'shape'")
    if not all(type(size) is int and 0 <= size < 1 << 31 for size in shape):
        raise DatasetError(f"{path}: the feature '{name:.80}' has the shape {shape!r:.60}")
    names = tuple(_names(about.get("names")))
    is_sound = len(names) == math.prod(shape) == len(set(names))
    return Feature(dtype, tuple(shape), names if is_sound else ())


def _names(found: object) -> Iterator[str]:
    """Yield the names of a feature's numbers, however they are nested.

    LeRobot writes a list, or a mapping of one list (``motors``, ``axes``); people also write lists
    in a list, and names with their places.
    """
    if isinstance(found, str):
        yield found
    elif isinstance(found, list):
        for part in found:
            yield from _names(part)
    elif isinstance(found, dict):
        if found and all(type(place) is int for place in found.values()):
            yield from sorted(map(str, found), key=lambda name: int(found[name]))
        else:
            for part in found.values():
                yield from _names(part)


def _episodes(rows: list[dict[str, Any]], path: Path) -> dict[int, RecordedEpisode]:
    episodes: dict[int, RecordedEpisode] = {}
    for row in rows:
        number, length = row.get("episode_index"), row.get("length")
        if type(number) is not int or type(length) is not int or number in episodes:
            raise DatasetError(
                f"{path}: episode {number!r:.20} has the length {length!r:.20}, or is there twice"
            )
        tasks, success = row.get("tasks"), row.get("success")
        episodes[number] = RecordedEpisode(
            length,
            tuple(map(str, tasks)) if isinstance(tasks, list) else (),
            success if type(success) is bool else None,
        )
    return episodes
