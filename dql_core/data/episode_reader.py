"""Reads the episodes of a Minari dataset one after the other, in the memory of one.

Episodes of a Minari dataset that is stored as Arrow or Parquet files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from gymnasium.spaces import Box, Dict, Space, Tuple
from numpy.typing import NDArray

from dql_core.data.hdf5_arrays import Hdf5File, MemoryBudget, open_hdf5
from dql_core.data.metadata import read_metadata
from dql_core.data.spaces import flatten
from dql_core.documents import file_within
from dql_core.errors import DatasetError, one_line
from dql_core.rewards import LoggedEpisode

HDF5_FILE = "main_data.hdf5"
# An open HDF5 file remembers all episodes that were read: it is opened anew after so many.
EPISODES_A_FILE = 64
# What pyarrow and NumPy raise for damaged or foreign arrays.
UNREADABLE = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RuntimeError,
    NotImplementedError,
    pa.ArrowException,
)
FLAGS = ("rewards", "terminations", "truncations")
COLUMNS = ("observations", "actions", *FLAGS)
# How Arrow's files begin; what follows is its stream format.
_MAGIC = b"ARROW1\0\0"


@dataclass(frozen=True)
class StoredEpisode:
    """An episode as it is stored.

    Attributes:
        index: Its number in the dataset.
        episode: Its observations, actions and end.
        rewards: The rewards that it has, shape (T,).
        early_end: The first step before the last one that is marked as an end, if any.
    """

    index: int
    episode: LoggedEpisode
    rewards: NDArray[np.floating[Any]]
    early_end: int | None = None


class EpisodeReader:
    """A dataset that is read episode by episode.

    Args:
        data_path: Its data folder, absolute.
        where: The dataset's name, for messages.

    Attributes:
        metadata: What is known of it beforehand.
        spec: What the vectors mean; made from the spaces where the dataset brings none.
        data_format: ``hdf5``, ``arrow`` or ``parquet``.
        num_episodes: Number of episodes.
        where: The dataset's name.

    Raises:
        DatasetError: If its metadata are damaged (see `read_metadata`); while it is read, also if
            an array is damaged or not of the shape that its space tells.
    """

    def __init__(self, data_path: Path, where: str) -> None:
        self.where = where
        self.metadata = read_metadata(data_path, where)
        self.spec = self.metadata.spec
        self.data_format = self.metadata.data_format
        self.num_episodes = self.metadata.total_episodes
        self._data_path = data_path
        self._spaces = self.metadata.observation_space, self.metadata.action_space

    def __iter__(self) -> Iterator[StoredEpisode]:
        transitions, expected = 0, self.metadata.total_steps
        for episode in self._episodes():
            transitions += len(episode.rewards)
            yield episode
        if transitions != expected:
            raise DatasetError(
                f"{self.where}: {transitions} transitions were read and its metadata tells of "
                f"{expected}: a part of it is missing; make or download it again"
            )

    def _episodes(self) -> Iterator[StoredEpisode]:
        try:
            for index, arrays in enumerate(self._stored()):
                yield self._episode(index, arrays)
        except (DatasetError, *UNREADABLE) as cause:
            raise DatasetError(
                f"{self.where}: not a readable Minari dataset: {one_line(cause)}"
            ) from cause

    def _stored(self) -> Iterator[dict[str, Any]]:
        budget = MemoryBudget()
        if self.data_format != "hdf5":
            for index in range(self.num_episodes):
                yield read_arrow_episode(
                    self._data_path, str(index), self.data_format, self._spaces, budget
                )
            return
        path = file_within(self._data_path, HDF5_FILE, DatasetError)
        budget.add_file(path)
        for first in range(0, self.num_episodes, EPISODES_A_FILE):
            with open_hdf5(path, budget) as file:
                for index in range(first, min(first + EPISODES_A_FILE, self.num_episodes)):
                    yield _hdf5_episode(file, f"episode_{index}", self._spaces)

    def _episode(self, index: int, arrays: dict[str, Any]) -> StoredEpisode:
        rewards, terminations, truncations = (np.asarray(arrays[flag]) for flag in FLAGS)
        length = len(rewards)
        observation_space, action_space = self._spaces
        observations = self._flat("observations", index, observation_space, arrays, length + 1)
        actions = self._flat("actions", index, action_space, arrays, length)
        for name, flags in (("terminations", terminations), ("truncations", truncations)):
            self._require_shape(name, index, flags.shape, (length,))
        terminated = bool(length and terminations[-1])
        early = np.flatnonzero(terminations[:-1].astype(bool) | truncations[:-1].astype(bool))
        episode = LoggedEpisode(
            observations=observations,
            actions=actions,
            spec=self.spec,
            terminated=terminated,
            truncated=not terminated,
        )
        return StoredEpisode(index, episode, rewards, int(early[0]) if len(early) else None)

    def _flat(
        self, name: str, index: int, space: Space[Any], arrays: dict[str, Any], length: int
    ) -> NDArray[np.float32]:
        for leaf_space, leaf in _leaves(space, arrays[name]):
            self._require_shape(name, index, leaf.shape, (length, *leaf_space.shape))
        return flatten(space, arrays[name], batch_dims=1)

    def _require_shape(
        self, name: str, index: int, found: Sequence[int], needed: Sequence[int]
    ) -> None:
        if found != needed:
            raise DatasetError(
                f"{name} of episode {index} have shape {found}, and its spaces and "
                f"rewards need {needed}"
            )


def _hdf5_episode(
    file: Hdf5File, name: str, spaces: tuple[Space[Any], Space[Any]]
) -> dict[str, Any]:
    return {
        "observations": _hdf5_value(file, (name, "observations"), spaces[0]),
        "actions": _hdf5_value(file, (name, "actions"), spaces[1]),
        **{flag: file.array(name, flag) for flag in FLAGS},
    }


def _hdf5_value(file: Hdf5File, names: tuple[str, ...], space: Space[Any]) -> Any:
    """Read an element of a space, with an axis for time in front."""
    if isinstance(space, Box):
        return file.array(*names)
    if isinstance(space, Dict):
        return {key: _hdf5_value(file, (*names, key), part) for key, part in space.items()}
    assert isinstance(space, Tuple)
    parts = enumerate(space.spaces)
    return tuple(_hdf5_value(file, (*names, f"_index_{i}"), part) for i, part in parts)


def _leaves(space: Space[Any], value: Any) -> Iterator[tuple[Box, NDArray[Any]]]:
    if isinstance(space, Box):
        yield space, value
    elif isinstance(space, Dict):
        for key, part in space.items():
            yield from _leaves(part, value[key])
    elif isinstance(space, Tuple):
        for part, each in zip(space.spaces, value, strict=True):
            yield from _leaves(part, each)


def episode_files(folder: Path, name: str, data_format: str) -> list[Path]:
    """Return the files of one episode in their order.

    Args:
        folder: The dataset's data folder.
        name: The episode's folder in it.
        data_format: ``arrow`` or ``parquet``.

    Raises:
        DatasetError: If there is none, or one is a link or no regular file.
    """
    try:
        found = sorted(path.name for path in (folder / name).iterdir())
    except OSError as cause:
        raise DatasetError(
            f"{folder / name}: {cause.strerror}; a part of it is missing"
        ) from cause
    names = [each for each in found if each.endswith(f".{data_format}")]
    if not names:
        raise DatasetError(f"{folder / name}: holds no .{data_format} file")
    return [file_within(folder, f"{name}/{each}", DatasetError) for each in names]


def read_table(
    path: Path, data_format: str, budget: MemoryBudget, columns: tuple[str, ...] | None = None
) -> pa.Table:
    """Read a file of an episode.

    Args:
        path: A regular file.
        data_format: ``arrow`` or ``parquet``.
        budget: What its columns may still take.
        columns: Which columns; ``None`` for all.

    Raises:
        DatasetError: If it announces more than the file explains.
    """
    budget.add_file(path)
    if data_format == "parquet":
        return _read_parquet(path, budget, columns)
    budget.spend(path.stat().st_size, "the file")
    return _read_arrow(path, columns)


def read_arrow_episode(
    folder: Path,
    name: str,
    data_format: str,
    spaces: tuple[Space[Any], Space[Any]],
    budget: MemoryBudget,
) -> dict[str, Any]:
    """Read one episode, without its infos.

    Minari's own reader takes the first record batch for the whole episode, so that it loses all
    that follows the 32,768th row of a longer one.

    Args:
        folder: The dataset's data folder.
        name: The episode's folder in it.
        data_format: ``arrow`` or ``parquet``.
        spaces: Of observations and actions: Boxes, alone or in Dicts and Tuples.
        budget: What the columns may still take.

    Returns:
        `COLUMNS` by name, as elements of their spaces with an axis for time in front.
    """
    files = episode_files(folder, name, data_format)
    table = pa.concat_tables([read_table(file, data_format, budget, COLUMNS) for file in files])
    table.validate(full=True)  # else a damaged file leads out of its own memory
    columns = {column: table[column].combine_chunks() for column in COLUMNS}
    # Rows are observations: the last one has no action, and Minari pads it.
    flags = {flag: _numbers(columns[flag], flag)[:-1] for flag in FLAGS}
    return {
        "observations": _decode(spaces[0], columns["observations"], "observations"),
        "actions": _decode(spaces[1], columns["actions"][:-1], "actions"),
        **flags,
    }


def _read_parquet(path: Path, budget: MemoryBudget, columns: tuple[str, ...] | None) -> pa.Table:
    with pa.parquet.ParquetFile(path) as file:
        metadata = file.metadata
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for part in map(group.column, range(group.num_columns)):
                top = part.path_in_schema.partition(".")[0]
                if columns is None or top in columns:
                    values = max(part.num_values, group.num_rows)
                    size = max(part.total_uncompressed_size, 8 * values)
                    budget.spend(size, f"'{part.path_in_schema}'")
        return file.read(columns=columns, use_threads=False)


def _read_arrow(path: Path, columns: tuple[str, ...] | None) -> pa.Table:
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise DatasetError(f"{path}: is no Arrow file")
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(content).slice(len(_MAGIC)))
    first = next(messages, None)
    if first is None:
        raise DatasetError(f"{path}: holds nothing")
    schema = pa.ipc.read_schema(first)
    batches = []
    for message in messages:
        if message.type != "record batch" or _is_compressed(message):
            raise DatasetError(
                f"{path}: holds a compressed part or a dictionary, of which nobody knows how "
                f"large it gets; write it plainly, as Minari does, or as parquet"
            )
        batches.append(pa.ipc.read_record_batch(message, schema))
    table = pa.Table.from_batches(batches, schema)
    return table if columns is None else table.select(columns)


def _is_compressed(message: pa.Message) -> bool:
    """Look into a record batch's description, a flatbuffer: its fourth field is the compression.

    Source: format/Message.fbs of Apache Arrow. Before version 5 it was told in another way.
    """
    content = message.metadata.to_pybytes()

    def offset(table: int, field: int) -> int:
        (back,) = struct.unpack_from("<i", content, table)
        (size,) = struct.unpack_from("<H", content, table - back)
        place = 4 + 2 * field
        found: int = struct.unpack_from("<H", content, table - back + place)[0]
        return table + found if place < size and found else 0

    (root,) = struct.unpack_from("<I", content)
    header = offset(root, 2)
    batch = header + struct.unpack_from("<I", content, header)[0]
    return message.metadata_version != pa.ipc.MetadataVersion.V5 or offset(batch, 3) > 0


def _decode(space: Space[Any], column: pa.Array, name: str) -> Any:
    if isinstance(space, Dict | Tuple):
        if not pa.types.is_struct(column.type) or column.null_count:
            raise ValueError(f"'{name}' is {column.type}, and its space has parts")
        keys = space.spaces if isinstance(space, Dict) else map(str, range(len(space.spaces)))
        parts = {
            key: _decode(_part(space, key), column.field(key), f"{name}.{key}") for key in keys
        }
        return parts if isinstance(space, Dict) else tuple(parts.values())
    assert isinstance(space, Box)
    is_list = pa.types.is_fixed_size_list(column.type) and not column.null_count
    if not (is_list and column.type.list_size == math.prod(space.shape)):
        raise ValueError(f"'{name}' is {column.type}, and its space a Box of shape {space.shape}")
    values = _numbers(column.flatten(), name)
    return np.reshape(values, (len(column), *space.shape))


def _part(space: Dict | Tuple[Any], key: str) -> Space[Any]:
    return space[key] if isinstance(space, Dict) else space[int(key)]


def _numbers(column: pa.Array, name: str) -> NDArray[Any]:
    kind = column.type
    is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if not (is_number or pa.types.is_boolean(kind)) or column.null_count:
        raise ValueError(f"'{name}' is {kind} with {column.null_count} nulls, no plain numbers")
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
