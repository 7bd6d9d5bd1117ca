"""Reads the episodes of a Minari dataset one after the other, in the memory of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minari
import numpy as np
from minari.dataset.episode_data import EpisodeData
from numpy.typing import NDArray

from dql_core.data.arrow_episodes import ARROW_FORMATS, iterate_arrow_episodes
from dql_core.data.dataset import SPEC_KEY, UNREADABLE
from dql_core.data.spaces import flatten, spec_from_spaces
from dql_core.errors import DatasetError
from dql_core.rewards import LoggedEpisode
from dql_core.spec import PolicySpec

# An open HDF5 file remembers all episodes that were read: it is opened anew after so many.
EPISODES_A_FILE = 64


@dataclass(frozen=True)
class StoredEpisode:
    """An episode as it is stored.

    Attributes:
        index: Its number in the dataset.
        episode: Its observations, actions and end.
        rewards: The rewards that it has, shape (T,).
    """

    index: int
    episode: LoggedEpisode
    rewards: NDArray[np.floating[Any]]


class EpisodeReader:
    """A dataset that is read episode by episode.

    Args:
        data_path: Its data folder, absolute.
        where: The dataset's name, for messages.

    Attributes:
        spec: What the vectors mean; made from the spaces where the dataset brings none.
        data_format: ``hdf5``, ``arrow`` or ``parquet``.
        num_episodes: Number of episodes.
        where: The dataset's name.

    Raises:
        DatasetError: If it is damaged, has no episode, or its spaces do not fit (see
            `spec_from_spaces`).
    """

    def __init__(self, data_path: Path, where: str) -> None:
        self.where = where
        try:
            self._dataset = minari.MinariDataset(data_path)
            metadata = self._dataset.storage.metadata
            self.data_format: str = metadata["data_format"]
            self.num_episodes: int = self._dataset.total_episodes
            self._spaces = self._dataset.observation_space, self._dataset.action_space
            self.spec = (
                PolicySpec.from_json(json.loads(metadata[SPEC_KEY]))
                if SPEC_KEY in metadata
                else spec_from_spaces(*self._spaces, metadata["dataset_id"], where)
            )
        except UNREADABLE as cause:
            raise self._unreadable(cause) from cause
        if self.num_episodes == 0:
            raise DatasetError(f"{where}: holds no episode; record or convert some first")

    def __iter__(self) -> Iterator[StoredEpisode]:
        transitions = 0
        try:
            for data in self._stored():
                transitions += len(data)
                yield self._episode(data)
            expected = self._dataset.total_steps
        except UNREADABLE as cause:
            raise self._unreadable(cause) from cause
        if transitions != expected:
            raise DatasetError(
                f"{self.where}: {transitions} transitions were read and its metadata tells of "
                f"{expected}: a part of it is missing; make or download it again"
            )

    def _stored(self) -> Iterator[EpisodeData]:
        if self.data_format in ARROW_FORMATS:
            yield from iterate_arrow_episodes(self._dataset, self.data_format)
            return
        for first in range(0, self.num_episodes, EPISODES_A_FILE):
            indices = self._dataset.episode_indices[first : first + EPISODES_A_FILE]
            yield from self._dataset.iterate_episodes(indices)

    def _episode(self, data: EpisodeData) -> StoredEpisode:
        terminated = bool(len(data) and data.terminations[-1])
        observation_space, action_space = self._spaces
        episode = LoggedEpisode(
            observations=flatten(observation_space, data.observations, batch_dims=1),
            actions=flatten(action_space, data.actions, batch_dims=1),
            spec=self.spec,
            terminated=terminated,
            truncated=not terminated,
        )
        found = episode.observations.shape, episode.actions.shape
        needed = (
            (len(data) + 1, len(self.spec.observation)),
            (len(data), len(self.spec.action)),
        )
        if found != needed:
            raise DatasetError(
                f"{self.where}: observations and actions of episode {data.id} have shapes "
                f"{found[0]} and {found[1]}, and {len(data)} rewards of '{self.spec.robot}' need "
                f"{needed[0]} and {needed[1]}"
            )
        return StoredEpisode(int(data.id), episode, np.asarray(data.rewards))

    def _unreadable(self, cause: Exception) -> DatasetError:
        reason = " ".join(str(cause).split()) or type(cause).__name__
        return DatasetError(f"{self.where}: not a readable Minari dataset: {reason}")
