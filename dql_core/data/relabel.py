"""Gives a stored dataset other rewards; everything else of it stays as it is, to the bit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

import dql_core
from dql_core.data.dataset import (
    DATA_FOLDER,
    HDF5_EPISODE_BYTES,
    find_dataset,
    require_outside,
)
from dql_core.data.episode_reader import HDF5_FILE, EpisodeReader, episode_files, read_table
from dql_core.data.hdf5_arrays import MemoryBudget, replace_array
from dql_core.data.infos import SUCCESS
from dql_core.data.metadata import METADATA_FILE, RELABEL_KEY, earlier_entries, has_rewards
from dql_core.documents import file_within
from dql_core.errors import ContractError, DatasetError
from dql_core.files import atomic_directory, require_room, write_text
from dql_core.rewards.call import RewardFunction, Rewards, load_rewards, source_sha256

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RelabelResult:
    """What was written.

    Attributes:
        transitions: Number of transitions.
        functions: The functions as they are in the dataset's metadata.
        had_rewards: False where nothing had given it rewards, so that all were 0.
        before: Of each episode the sum, the smallest and the largest of the rewards that were
            there, shape (episodes, 3).
        after: Likewise of those that are there now.
    """

    transitions: int
    functions: list[dict[str, Any]]
    had_rewards: bool
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return everything JSON-ready; a figure that is not finite is ``None``."""
        return {
            "episodes": len(self.after),
            "transitions": self.transitions,
            "reward": self.functions,
            "before": _figures(*self.before.T),
            "after": _figures(*self.after.T),
        }


def _figures(
    returns: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> dict[str, float | None]:
    figures = {
        "mean_return": float(returns.mean()),
        "min_return": float(returns.min()),
        "max_return": float(returns.max()),
        "min_reward": float(low.min()),
        "max_reward": float(high.max()),
    }
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _summary(rewards: NDArray[np.floating[Any]]) -> tuple[float, float, float]:
    low, high = rewards.min(initial=np.inf), rewards.max(initial=-np.inf)
    return float(rewards.sum(dtype=np.float64)), float(low), float(high)


def relabel(
    source: str | Path,
    functions: Sequence[RewardFunction],
    out: Path,
    progress: Progress = lambda done, total: None,
) -> RelabelResult:
    """Copy a dataset and replace its rewards by a weighted sum of functions, episode by episode.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a local Minari id.
        functions: At least one.
        out: The folder to make, with the dataset in ``data/``; it appears whole or not at all.
        progress: Called after each episode with how many of how many are done.

    Raises:
        ContractError: If a function cannot be called, or does not fit an episode.
        DatasetError: If the dataset cannot be read, or ``out`` already holds something.
    """
    rewards = load_rewards(functions)
    data_path = find_dataset(source).absolute()
    reader = EpisodeReader(data_path, str(source), infos=(SUCCESS,))
    out = out.absolute()
    require_outside(out, data_path, source)
    with atomic_directory(out, error=DatasetError) as temporary:
        _copy(data_path, temporary / DATA_FOLDER)
        # HDF5 would end the process on a full disk; rewards are less than half of a dataset.
        size = sum(file.stat().st_size for file in data_path.rglob("*") if file.is_file())
        require_room(temporary, size // 2 + HDF5_EPISODE_BYTES * reader.metadata.total_episodes)
        return _relabel_copy(temporary / DATA_FOLDER, reader, rewards, functions, progress)


def _copy(source: Path, target: Path) -> None:
    """Copy a data folder file by file: what is no file of its own is refused, not followed."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _copy(entry, target / entry.name)
        else:
            shutil.copy2(file_within(source, entry.name, DatasetError), target / entry.name)


def _relabel_copy(
    copy: Path,
    reader: EpisodeReader,
    rewards: Rewards,
    functions: Sequence[RewardFunction],
    progress: Progress,
) -> RelabelResult:
    before, after, transitions = [], [], 0
    for stored in reader:
        try:
            new = rewards(stored.episode)
        except ContractError as cause:
            raise ContractError(f"{reader.where}: episode {stored.index}: {cause}") from cause
        if reader.metadata.data_format == "hdf5":
            _replace_in_hdf5(copy / HDF5_FILE, stored.index, new)
        else:
            _replace_in_files(copy, str(stored.index), reader.metadata.data_format, new)
        before.append(_summary(stored.rewards))
        after.append(_summary(new))
        transitions += len(new)
        progress(len(after), reader.metadata.total_episodes)
    described = [_described(function) for function in functions]
    entry = {"version": dql_core.__version__, "reward": described}
    document = reader.metadata.document
    history = json.dumps([*earlier_entries(document, RELABEL_KEY, reader.where), entry])
    write_text(copy / METADATA_FILE, json.dumps({**document, RELABEL_KEY: history}))
    had_rewards = has_rewards(document)
    return RelabelResult(transitions, described, had_rewards, np.array(before), np.array(after))


def _described(function: RewardFunction) -> dict[str, Any]:
    """Return a function JSON-ready, with the hash of its source."""
    document = function.model_dump() | {"source_sha256": source_sha256(function.function)}
    described: dict[str, Any] = json.loads(json.dumps(document, default=str))
    return described


def _replace_in_hdf5(path: Path, episode: int, rewards: NDArray[np.float64]) -> None:
    # An open file remembers every episode that was touched; a million would fill the memory.
    with h5py.File(path, "r+") as file:
        replace_array(file[f"episode_{episode}"], "rewards", rewards)


def _replace_in_files(
    data_path: Path, episode: str, data_format: str, rewards: NDArray[np.float64]
) -> None:
    done = 0
    for path in episode_files(data_path, episode, data_format):
        table = read_table(path, data_format, MemoryBudget())
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
