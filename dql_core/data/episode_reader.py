"""Reads the episodes of a Minari dataset one after the other, in the memory of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from gymnasium.spaces import Box, Dict, Space, Tuple
from numpy.typing import NDArray

from dql_core.data.allowance import Allowance
from dql_core.data.arrow_episodes import FLAGS, read_arrow_episode
from dql_core.data.hdf5_arrays import Hdf5File, open_hdf5
from dql_core.data.metadata import read_metadata
from dql_core.data.spaces import flatten
from dql_core.documents import file_within
from dql_core.errors import DatasetError
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
            reason = " ".join(str(cause).split()) or type(cause).__name__
            raise DatasetError(f"{self.where}: not a readable Minari dataset: {reason}") from cause

    def _stored(self) -> Iterator[dict[str, Any]]:
        allowance = Allowance()
        if self.data_format != "hdf5":
            for index in range(self.num_episodes):
                yield read_arrow_episode(
                    self._data_path, str(index), self.data_format, self._spaces, allowance
                )
            return
        path = file_within(self._data_path, HDF5_FILE, DatasetError)
        allowance.add(path)
        for first in range(0, self.num_episodes, EPISODES_A_FILE):
            with open_hdf5(path, allowance) as file:
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
