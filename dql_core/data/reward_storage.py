"""Replaces the rewards of a stored Minari dataset, and nothing else in it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from dql_core.data.allowance import Allowance
from dql_core.data.arrow_episodes import episode_files, read_table
from dql_core.data.episode_reader import HDF5_FILE


def replace_rewards(
    data_path: Path, data_format: str, episode: int, rewards: NDArray[np.float64]
) -> None:
    """Replace the rewards of one episode of T steps.

    Args:
        data_path: The data folder of a dataset that was read before, and so is sound.
        data_format: ``hdf5``, ``arrow`` or ``parquet``.
        episode: Its number.
        rewards: The new ones, shape (T,).
    """
    if data_format == "hdf5":
        _replace_in_hdf5(data_path / HDF5_FILE, episode, rewards)
    else:
        _replace_in_files(data_path, str(episode), data_format, rewards)


def _replace_in_hdf5(path: Path, episode: int, rewards: NDArray[np.float64]) -> None:
    # An open file remembers every episode that was touched; a million would fill the memory.
    with h5py.File(path, "r+") as file:
        group = file[f"episode_{episode}"]
        old = group["rewards"]
        if old.dtype == rewards.dtype and old.shape == rewards.shape:
            old[...] = rewards
            return
        attributes = dict(old.attrs)
        storage = {"compression": old.compression, "compression_opts": old.compression_opts}
        del group["rewards"]
        new = group.create_dataset(
            "rewards", data=rewards, chunks=True, maxshape=(None,), **storage
        )
        new.attrs.update(attributes)


def _replace_in_files(
    data_path: Path, episode: str, data_format: str, rewards: NDArray[np.float64]
) -> None:
    done = 0
    for path in episode_files(data_path, episode, data_format):
        table = read_table(path, data_format, Allowance())
        part = rewards[done : done + len(table)]
        # Rows are observations: what follows the last reward is padding.
        padding = table["rewards"].to_numpy()[len(part) :].astype(np.float64)
        place = table.column_names.index("rewards")
        column = pa.array(np.concatenate([part, padding]))
        _write(path, data_format, table.set_column(place, "rewards", column))
        done += len(table)


def _write(path: Path, data_format: str, table: pa.Table) -> None:
    if data_format == "parquet":
        pa.parquet.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
