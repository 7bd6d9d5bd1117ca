"""Replaces the rewards of a stored Minari dataset, and nothing else in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from numpy.typing import NDArray

from dql_core.errors import DatasetError

HDF5_FILE = "main_data.hdf5"


class RewardWriter(Protocol):
    """Replaces the rewards of one episode."""

    def __call__(self, episode: int, rewards: NDArray[np.float64]) -> None:
        """Write the T rewards of an episode of T steps, shape (T,)."""


@contextmanager
def reward_writer(data_path: Path, data_format: str) -> Iterator[RewardWriter]:
    """Open the data folder of a dataset to replace rewards in it.

    Args:
        data_path: The folder with the episodes.
        data_format: ``hdf5``, ``arrow`` or ``parquet``.

    Yields:
        What replaces the rewards of one episode.

    Raises:
        DatasetError: If the format is another one.
    """
    if data_format == "hdf5":
        with h5py.File(data_path / HDF5_FILE, "r+") as file:
            yield lambda episode, rewards: _replace_in_hdf5(file[f"episode_{episode}"], rewards)
    elif data_format == "arrow":
        yield lambda episode, rewards: _replace_in_files(data_path, episode, rewards, "arrow")
    elif data_format == "parquet":
        yield lambda episode, rewards: _replace_in_files(data_path, episode, rewards, "parquet")
    else:
        raise DatasetError(
            f"{data_path}: is stored as '{data_format}', and rewards can be replaced in hdf5, "
            f"arrow and parquet"
        )


def _replace_in_hdf5(group: h5py.Group, rewards: NDArray[np.float64]) -> None:
    old = group["rewards"]
    if old.dtype == rewards.dtype and old.shape == rewards.shape:
        old[...] = rewards
        return
    attributes = dict(old.attrs)
    storage = {"compression": old.compression, "compression_opts": old.compression_opts}
    del group["rewards"]
    new = group.create_dataset("rewards", data=rewards, chunks=True, maxshape=(None,), **storage)
    new.attrs.update(attributes)


def _replace_in_files(
    data_path: Path, episode: int, rewards: NDArray[np.float64], data_format: str
) -> None:
    folder = data_path / str(episode)
    found = pa.dataset.dataset(folder, format=data_format, ignore_prefixes=["metadata"])
    done = 0
    for name in found.files:
        table = _read(Path(name), data_format)
        part = rewards[done : done + len(table)]
        # Rows are observations: what follows the last reward is padding.
        padding = table["rewards"].to_numpy()[len(part) :].astype(np.float64)
        place = table.column_names.index("rewards")
        column = pa.array(np.concatenate([part, padding]))
        _write(Path(name), data_format, table.set_column(place, "rewards", column))
        done += len(table)


def _read(path: Path, data_format: str) -> pa.Table:
    if data_format == "parquet":
        return pa.parquet.read_table(path, partitioning=None)
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _write(path: Path, data_format: str, table: pa.Table) -> None:
    if data_format == "parquet":
        pa.parquet.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
