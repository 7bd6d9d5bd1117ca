"""Reads the episodes of a Minari dataset one after the other, in the memory of one.

They are stored in one HDF5 file, or in a folder of Arrow or Parquet files each.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from dql_core.data.hdf5_arrays import UNREADABLE, Hdf5File, MemoryBudget, open_hdf5
from dql_core.data.infos import SUCCESS, last_of
from dql_core.data.metadata import read_metadata
from dql_core.data.spaces import Keys, join, leaves
from dql_core.documents import file_within
from dql_core.errors import DatasetError, one_line
from dql_core.spec import LoggedEpisode

HDF5_FILE = "main_data.hdf5"
# An open HDF5 file remembers all episodes that were read: it is opened anew after so many.
EPISODES_A_FILE = 64
FLAGS = ("rewards", "terminations", "truncations")
COLUMNS = ("observations", "actions", *FLAGS)
# Reads an array of an episode by its name, the keys within its space, and the Box that it is of.
ReadArray = Callable[[str, Keys, Box | None], NDArray[Any]]
Infos = Mapping[str, NDArray[Any]]
# Reads those of the named infos that an episode has.
ReadInfos = Callable[[Sequence[str]], Infos]
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
        infos: Those that were asked for and that it has.
    """

    index: int
    episode: LoggedEpisode
    rewards: NDArray[np.floating[Any]]
    early_end: int | None = None
    infos: Infos = field(default_factory=dict)


class EpisodeReader:
    """A dataset that is read episode by episode.

    Args:
        data_path: Its data folder, absolute.
        where: The dataset's name, for messages.
        bounds_matter: As for `read_metadata`.
        infos: Names of infos, numbers each, to be read of the episodes that have them; an
            episode's `LoggedEpisode.success` is known if ``success`` is among them.

    Attributes:
        metadata: What is known of it beforehand.
        where: The dataset's name.

    Raises:
        DatasetError: If its metadata are damaged (see `read_metadata`); while it is read, also if
            an array is damaged or not of the shape of its space.
    """

    def __init__(
        self,
        data_path: Path,
        where: str,
        *,
        bounds_matter: bool = True,
        infos: Sequence[str] = (),
    ) -> None:
        self.where, self._infos = where, infos
        self.metadata = read_metadata(data_path, where, bounds_matter=bounds_matter)
        self._data_path = data_path
        self._spaces = self.metadata.observation_space, self.metadata.action_space

    def __iter__(self) -> Iterator[StoredEpisode]:
        transitions, expected = 0, self.metadata.total_steps
        for episode in self._episodes():
            transitions += len(episode.rewards)
            yield episode
        if transitions != expected:
            raise DatasetError(
                f"{self.where}: {transitions} transitions were read and its metadata says "
                f"{expected}: a part of it is missing; make or download it again"
            )

    def _episodes(self) -> Iterator[StoredEpisode]:
        try:
            for index, (read, read_infos) in enumerate(self._stored()):
                infos = read_infos(self._infos) if self._infos else {}
                yield self._episode(index, read, infos)
        except (DatasetError, *UNREADABLE, pa.ArrowException) as cause:
            raise DatasetError(
                f"{self.where}: not a readable Minari dataset: {one_line(cause)}"
            ) from cause

    def _stored(self) -> Iterator[tuple[ReadArray, ReadInfos]]:
        """Yield for each episode what reads its arrays, and what its infos."""
        budget = MemoryBudget()
        if self.metadata.data_format != "hdf5":
            for index in range(self.metadata.total_episodes):
                place = self._data_path, str(index), self.metadata.data_format, budget
                yield arrow_reader(*place), partial(_arrow_infos, *place)
            return
        path = file_within(self._data_path, HDF5_FILE, DatasetError)
        budget.add_file(path)
        for first in range(0, self.metadata.total_episodes, EPISODES_A_FILE):
            with open_hdf5(path, budget) as file:
                for index in range(
                    first, min(first + EPISODES_A_FILE, self.metadata.total_episodes)
                ):
                    name = f"episode_{index}"
                    yield partial(_read_hdf5, file, name), partial(_hdf5_infos, file, name)

    def _episode(self, index: int, read: ReadArray, infos: Infos) -> StoredEpisode:
        rewards, terminations, truncations = (read(flag, (), None) for flag in FLAGS)
        length = len(rewards)
        observation_space, action_space = self._spaces
        observations = self._flat("observations", index, observation_space, read, length + 1)
        actions = self._flat("actions", index, action_space, read, length)
        for name, flags in (("terminations", terminations), ("truncations", truncations)):
            self._require_shape(name, index, flags.shape, (length,))
        terminated = bool(length and terminations[-1])
        early = np.flatnonzero(terminations[:-1].astype(bool) | truncations[:-1].astype(bool))
        episode = LoggedEpisode(
            observations=observations,
            actions=actions,
            spec=self.metadata.spec,
            terminated=terminated,
            truncated=not terminated or bool(truncations[-1]),
            success=last_of(infos.get(SUCCESS)),
        )
        early_end = int(early[0]) if len(early) else None
        return StoredEpisode(index, episode, rewards, early_end, infos)

    def _flat(
        self, name: str, index: int, space: Space[Any], read: ReadArray, length: int
    ) -> NDArray[np.float32]:
        parts = []
        for path, box in leaves(space):
            assert isinstance(box, Box)  # or its metadata were refused
            part = read(name, path, box)
            self._require_shape(name, index, part.shape, (length, *box.shape))
            parts.append(part)
        return join(parts, batch_dims=1)

    def _require_shape(
        self, name: str, index: int, found: Sequence[int], needed: Sequence[int]
    ) -> None:
        if found != needed:
            raise DatasetError(
                f"{name} of episode {index} have shape {found}, and its spaces and "
                f"rewards need {needed}"
            )


def _read_hdf5(
    file: Hdf5File, episode: str, name: str, path: Keys, box: Box | None
) -> NDArray[Any]:
    names = (key if isinstance(key, str) else f"_index_{key}" for key in path)
    return file.array(episode, name, *names)


def _hdf5_infos(file: Hdf5File, episode: str, names: Sequence[str]) -> Infos:
    if not file.has(episode, "infos"):
        return {}
    there = [name for name in names if file.has(episode, "infos", name)]
    return {name: file.array(episode, "infos", name) for name in there}


def _arrow_infos(
    folder: Path, episode: str, data_format: str, budget: MemoryBudget, names: Sequence[str]
) -> Infos:
    infos = read_arrow_infos(folder, episode, data_format, budget)
    return {name: infos[name] for name in names if isinstance(infos.get(name), np.ndarray)}


def read_arrow_infos(
    folder: Path, episode: str, data_format: str, budget: MemoryBudget
) -> dict[str, Any]:
    """Read all infos of an episode that is stored as Arrow or Parquet.

    Args:
        folder: The dataset's data folder.
        episode: The episode's folder in it.
        data_format: ``arrow`` or ``parquet``.
        budget: What they may still take.

    Returns:
        Arrays, lists of texts and mappings of such, by name; Minari pads them to as many rows as
        there are observations.

    Raises:
        DatasetError: If a file is missing, or announces more than it explains.
        ValueError: If one of them is of another kind.
    """
    files = episode_files(folder, episode, data_format)
    tables = [read_table(file, data_format, budget, ("infos",)) for file in files]
    if "infos" not in tables[0].column_names:
        return {}
    table = pa.concat_tables(tables)
    table.validate(full=True)
    found = _info(table["infos"].combine_chunks(), table.schema.field("infos"))
    if not isinstance(found, dict):
        raise ValueError(f"'infos' is {table.schema.field('infos').type}, not a struct")
    return found


def _info(column: pa.Array, described: pa.Field) -> Any:
    kind = column.type
    if pa.types.is_struct(kind) and not column.null_count:
        return {part.name: _info(column.field(i), part) for i, part in enumerate(kind)}
    if pa.types.is_fixed_size_list(kind) and not column.null_count:
        shape = (described.metadata or {}).get(b"shape", str(kind.list_size).encode()).split(b",")
        values = _numbers(column.flatten(), described.name)
        return values.reshape(len(column), *(int(length) for length in shape if length))
    if pa.types.is_string(kind) and not column.null_count:
        return column.to_pylist()
    return _numbers(column, described.name)


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


def arrow_reader(folder: Path, name: str, data_format: str, budget: MemoryBudget) -> ReadArray:
    """Read one episode, without its infos, and return what finds its arrays.

    Minari's own reader takes the first record batch for the whole episode, so that it loses all
    that follows the 32,768th row of a longer one.
    """
    files = episode_files(folder, name, data_format)
    table = pa.concat_tables([read_table(file, data_format, budget, COLUMNS) for file in files])
    table.validate(full=True)  # else a damaged file leads out of its own memory
    columns = {column: table[column].combine_chunks() for column in COLUMNS}
    for padded in ("actions", *FLAGS):  # rows are observations: the last one has no action
        columns[padded] = columns[padded][:-1]
    return partial(_read_column, columns)


def _read_parquet(path: Path, budget: MemoryBudget, columns: tuple[str, ...] | None) -> pa.Table:
    with pa.parquet.ParquetFile(path) as file:
        metadata, texts = file.metadata, set()
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for index, part in enumerate(map(group.column, range(group.num_columns))):
                place = part.path_in_schema
                if columns is None or any(f"{place}.".startswith(f"{name}.") for name in columns):
                    values = max(part.num_values, group.num_rows)
                    width = max(
                        8, metadata.schema.column(index).length
                    )  # of bytes of a fixed number
                    budget.spend(max(part.total_uncompressed_size, width * values), f"'{place}'")
                    if part.physical_type == "BYTE_ARRAY":
                        texts.add(place)
        if texts:
            _spend_texts(path, budget, sorted(texts))
        return file.read(columns=columns, use_threads=False)


def _spend_texts(path: Path, budget: MemoryBudget, places: Sequence[str]) -> None:
    """Count texts in, of which a file may hold one and name it in a million rows."""
    with pa.parquet.ParquetFile(path, read_dictionary=places) as file:
        table = file.read(columns=places, use_threads=False)
    table.validate(full=True)
    for name, column in zip(table.column_names, table.columns, strict=True):
        budget.spend(sum(map(_text_bytes, column.chunks)), f"'{name}'")


def _text_bytes(column: pa.Array) -> int:
    """How many bytes the texts in a column take that was read with its dictionary."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        lengths = pa.compute.binary_length(column.dictionary)
        return int(pa.compute.sum(lengths.take(column.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_text_bytes(column.field(index)) for index in range(kind.num_fields))
    # Lists of any kind, and maps.
    return _text_bytes(column.values) if hasattr(column, "values") else 0


def _read_arrow(path: Path, columns: tuple[str, ...] | None) -> pa.Table:
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise DatasetError(f"{path}: is not an Arrow file")
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
    return (
        table
        if columns is None
        else table.select([each for each in columns if each in table.column_names])
    )


def _is_compressed(message: pa.Message) -> bool:
    """Look into a record batch's description, a flatbuffer: its fourth field is the compression.

    Source: format/Message.fbs of Apache Arrow. Before version 5 it was elsewhere.
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


def _read_column(
    columns: dict[str, pa.Array], name: str, path: Keys, box: Box | None
) -> NDArray[Any]:
    """Return an array of an episode, with an axis for time in front."""
    column = columns[name]
    for key in path:
        if not pa.types.is_struct(column.type) or column.null_count:
            raise ValueError(f"'{name}' is {column.type}, and its space has parts")
        column, name = column.field(str(key)), f"{name}.{key}"
    if box is None:
        return _numbers(column, name)
    is_list = pa.types.is_fixed_size_list(column.type) and not column.null_count
    if not (is_list and column.type.list_size == math.prod(box.shape)):
        raise ValueError(f"'{name}' is {column.type}, and its space a Box of shape {box.shape}")
    return np.reshape(_numbers(column.flatten(), name), (len(column), *box.shape))


def _numbers(column: pa.Array, name: str) -> NDArray[Any]:
    kind = column.type
    is_number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
    if not (is_number or pa.types.is_boolean(kind)) or column.null_count:
        raise ValueError(f"'{name}' is {kind} with {column.null_count} nulls, not plain numbers")
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
