"""Copies episodes of stored datasets into a new one, to the bit, or cut at their ends.

What is written is HDF5, whatever is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from dql_core.data.dataset import EPISODES_AT_ONCE, HDF5_EPISODE_BYTES
from dql_core.data.episode_reader import FLAGS, HDF5_FILE, arrow_reader, read_arrow_infos
from dql_core.data.hdf5_arrays import (
    UNREADABLE,
    MemoryBudget,
    bytes_to_read,
    open_hdf5,
    replace_array,
)
from dql_core.data.metadata import METADATA_FILE, DatasetMetadata
from dql_core.data.spaces import leaves
from dql_core.documents import file_within, read_json
from dql_core.errors import DatasetError, one_line
from dql_core.files import require_room, write_text

# A copy may take more than what is stored, as texts do.
_ROOM = 2
# What led to the first observation, which is not there any more.
_OF_THE_RESET = ("seed", "options")


@dataclass(frozen=True)
class Pick:
    """An episode to copy, or a part of it.

    Attributes:
        episode: Its number in the dataset that it is read from.
        length: How many transitions it has there.
        skipped: How many of them are left out at its beginning.
        dropped: How many of them are left out at its end.
    """

    episode: int
    length: int
    skipped: int = 0
    dropped: int = 0

    @property
    def kept(self) -> int:
        """How many transitions are copied."""
        return self.length - self.skipped - self.dropped


class EpisodeCopier:
    """Collects episodes in the HDF5 file of a new dataset.

    Args:
        folder: The new data folder, which is empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / HDF5_FILE
        self._path.touch(exist_ok=False)
        self._episodes = self._steps = 0

    def add(self, data_path: Path, metadata: DatasetMetadata, picks: Sequence[Pick]) -> None:
        """Copy episodes of a dataset, in this order, behind those that are there.

        Args:
            data_path: Its data folder.
            metadata: What is known of it.
            picks: Which, each with a transition at least.

        Raises:
            DatasetError: If it is damaged, or has anything that does not lie in its own files.
        """
        budget, waiting = MemoryBudget(), iter(picks)
        if metadata.data_format == "hdf5":
            budget.add_file(file_within(data_path, HDF5_FILE, DatasetError))
        # An open HDF5 file keeps what it knows of each episode in memory.
        while group := list(islice(waiting, EPISODES_AT_ONCE)):
            if metadata.data_format == "hdf5":
                self._copy(file_within(data_path, HDF5_FILE, DatasetError), budget, group)
            else:
                for place, pick in enumerate(group, start=self._episodes):
                    self._convert(data_path, metadata, pick.episode, place, budget)
            with h5py.File(self._path, "r+", track_order=True) as target:
                for place, pick in enumerate(group, start=self._episodes):
                    _number_and_cut(target[f"episode_{place}"], place, pick, budget)
            self._episodes += len(group)
            self._steps += sum(pick.kept for pick in group)

    def finish(self, document: Mapping[str, Any]) -> None:
        """Write the metadata of the new dataset, with which it is whole.

        Args:
            document: All of them but what counts its episodes, steps and bytes.
        """
        counts = {
            "data_format": "hdf5",
            "total_episodes": self._episodes,
            "total_steps": self._steps,
            "dataset_size": round(self._path.stat().st_size / 1e6, 1),
        }
        write_text(self._folder / METADATA_FILE, json.dumps({**document, **counts}))

    def _copy(self, path: Path, budget: MemoryBudget, picks: Sequence[Pick]) -> None:
        with open_hdf5(path, budget) as source:
            stored = sum(source.stored_bytes(f"episode_{pick.episode}") for pick in picks)
        self._require_room(stored, len(picks))
        with (
            open_hdf5(path, budget) as source,
            h5py.File(self._path, "a", track_order=True) as target,
        ):
            for place, pick in enumerate(picks, start=self._episodes):
                source.copy(f"episode_{pick.episode}", target, f"episode_{place}")

    def _convert(
        self,
        data_path: Path,
        metadata: DatasetMetadata,
        episode: int,
        place: int,
        budget: MemoryBudget,
    ) -> None:
        """Write as HDF5 what is stored as Arrow or Parquet, under the names that Minari uses."""
        try:
            tree = _arrow_tree(data_path, metadata, str(episode), budget)
        except (DatasetError, *UNREADABLE, pa.ArrowException) as cause:
            raise DatasetError(
                f"{data_path}: not a readable Minari dataset: {one_line(cause)}"
            ) from cause
        path = file_within(data_path, f"{episode}/{METADATA_FILE}", DatasetError)
        attributes = dict(_flat(read_json(path, DatasetError)))
        self._require_room(_size(tree), 1)
        with h5py.File(self._path, "a", track_order=True) as target:
            group = target.create_group(f"episode_{place}")
            _write(group, tree)
            for name, value in attributes.items():
                _set_attribute(group, name, value, path)

    def _require_room(self, size_bytes: int, episodes: int) -> None:
        """Refuse to go on where the disk is full, since HDF5 would end the whole process."""
        size = _ROOM * size_bytes + HDF5_EPISODE_BYTES * episodes
        require_room(self._folder, size, self._path.stat().st_size)


def _set_attribute(group: h5py.Group, name: str, value: Any, path: Path) -> None:
    try:
        group.attrs[name] = value
    except UNREADABLE as cause:
        raise DatasetError(
            f"{path}: '{name:.80}' cannot be written as an attribute of HDF5: "
            f"{one_line(cause):.200}; take it out of this file"
        ) from cause


def _number_and_cut(group: h5py.Group, place: int, pick: Pick, budget: MemoryBudget) -> None:
    """Give a copied episode its number, and cut it."""
    group.attrs["id"] = place
    group.attrs["total_steps"] = pick.kept
    if pick.kept == pick.length:
        return
    if pick.skipped:
        for name in [each for each in group.attrs if each.split("/")[0] in _OF_THE_RESET]:
            del group.attrs[name]
    for parent, name in list(_arrays(group)):
        shape = parent[name].shape
        # Rows are steps, or observations, of which there is one more; or not rows of time.
        more = shape[0] - pick.length if shape else -1
        if more in (0, 1):
            budget.spend(bytes_to_read(parent[name]), f"'{name}' of episode {pick.episode}")
            rows = slice(pick.skipped, pick.skipped + pick.kept + more)
            replace_array(parent, name, parent[name][rows])
    if pick.dropped:
        group["terminations"][-1] = False
        group["truncations"][-1] = True


def _arrays(group: h5py.Group) -> Iterator[tuple[h5py.Group, str]]:
    """Yield the name of each array in a group and its groups, and the group that it is in."""
    for name, each in group.items():
        if isinstance(each, h5py.Group):
            yield from _arrays(each)
        else:
            yield group, name


def _arrow_tree(
    data_path: Path, metadata: DatasetMetadata, episode: str, budget: MemoryBudget
) -> dict[str, Any]:
    """Return the arrays of an episode in the groups in which Minari's HDF5 has them."""
    place = data_path, episode, metadata.data_format, budget
    read = arrow_reader(*place)
    tree: dict[str, Any] = {flag: read(flag, (), None) for flag in FLAGS}
    spaces = {"observations": metadata.observation_space, "actions": metadata.action_space}
    for kind, space in spaces.items():
        for path, box in leaves(space):
            keys = [kind, *(key if isinstance(key, str) else f"_index_{key}" for key in path)]
            within = tree
            for key in keys[:-1]:
                within = within.setdefault(key, {})
            within[keys[-1]] = read(kind, path, box)  # type: ignore[arg-type]  # or it was refused
    infos = read_arrow_infos(*place)
    return tree | ({"infos": infos} if infos else {})


def _write(group: h5py.Group, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            _write(group.create_group(name), value)
            continue
        dtype = h5py.string_dtype("utf-8") if isinstance(value, list) else value.dtype
        shape = np.shape(value)[1:]
        group.create_dataset(name, data=value, dtype=dtype, chunks=True, maxshape=(None, *shape))


def _size(tree: Mapping[str, Any]) -> int:
    total = 0
    for value in tree.values():
        if isinstance(value, Mapping):
            total += _size(value)
        else:
            total += value.nbytes if isinstance(value, np.ndarray) else sum(map(len, value)) * 4
    return total


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield an episode's metadata under the names that Minari gives them in HDF5."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}/")
        elif value is not None:
            yield f"{above}{key}", value
