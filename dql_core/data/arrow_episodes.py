"""Episodes of a Minari dataset that is stored as Arrow or Parquet files."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from gymnasium.spaces import Box, Dict, Space, Tuple
from numpy.typing import NDArray

from dql_core.data.allowance import Allowance
from dql_core.documents import file_within
from dql_core.errors import DatasetError

FLAGS = ("rewards", "terminations", "truncations")
COLUMNS = ("observations", "actions", *FLAGS)
# How Arrow's files begin; what follows is its stream format.
_MAGIC = b"ARROW1\0\0"


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
    path: Path, data_format: str, allowance: Allowance, columns: tuple[str, ...] | None = None
) -> pa.Table:
    """Read a file of an episode.

    Args:
        path: A regular file.
        data_format: ``arrow`` or ``parquet``.
        allowance: What its columns may still take.
        columns: Which columns; ``None`` for all.

    Raises:
        DatasetError: If it announces more than the file explains.
    """
    allowance.add(path)
    if data_format == "parquet":
        return _read_parquet(path, allowance, columns)
    allowance.take(path.stat().st_size, "the file")
    return _read_arrow(path, columns)


def read_arrow_episode(
    folder: Path,
    name: str,
    data_format: str,
    spaces: tuple[Space[Any], Space[Any]],
    allowance: Allowance,
) -> dict[str, Any]:
    """Read one episode, without its infos.

    Minari's own reader takes the first record batch for the whole episode, so that it loses all
    that follows the 32,768th row of a longer one.

    Args:
        folder: The dataset's data folder.
        name: The episode's folder in it.
        data_format: ``arrow`` or ``parquet``.
        spaces: Of observations and actions: Boxes, alone or in Dicts and Tuples.
        allowance: What the columns may still take.

    Returns:
        `COLUMNS` by name, as elements of their spaces with an axis for time in front.
    """
    files = episode_files(folder, name, data_format)
    table = pa.concat_tables([read_table(file, data_format, allowance, COLUMNS) for file in files])
    table.validate(full=True)  # else a damaged file leads out of its own memory
    columns = {column: table[column].combine_chunks() for column in COLUMNS}
    # Rows are observations: the last one has no action, and Minari pads it.
    flags = {flag: _numbers(columns[flag], flag)[:-1] for flag in FLAGS}
    return {
        "observations": _decode(spaces[0], columns["observations"], "observations"),
        "actions": _decode(spaces[1], columns["actions"][:-1], "actions"),
        **flags,
    }


def _read_parquet(path: Path, allowance: Allowance, columns: tuple[str, ...] | None) -> pa.Table:
    with pa.parquet.ParquetFile(path) as file:
        metadata = file.metadata
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for part in map(group.column, range(group.num_columns)):
                top = part.path_in_schema.partition(".")[0]
                if columns is None or top in columns:
                    values = max(part.num_values, group.num_rows)
                    size = max(part.total_uncompressed_size, 8 * values)
                    allowance.take(size, f"'{part.path_in_schema}'")
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
