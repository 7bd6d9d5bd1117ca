"""Datasets are Minari datasets: found by folder or id, loaded into memory, and written."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from numpy.typing import NDArray

from dql_core.data.episode_reader import EpisodeReader, StoredEpisode
from dql_core.data.infos import of_steps, to_store
from dql_core.data.metadata import METADATA_FILE, SPEC_KEY
from dql_core.errors import DatasetError, did_you_mean_path
from dql_core.files import atomic_directory, require_room
from dql_core.spec import FieldSpec, LoggedEpisode, PolicySpec

EPISODES_AT_ONCE = 64
# What HDF5 adds to an episode's arrays, at most.
HDF5_EPISODE_BYTES = 1 << 15
DATA_FOLDER = "data"
_logger = logging.getLogger(__name__)
# A dataset's name within Minari's folder, which leads nowhere else.
_MINARI_ID = re.compile(r"[-\w]+(/[-\w]+)*")


@dataclass(frozen=True)
class Episode:
    """One episode of T transitions.

    Attributes:
        observations: Shape (T + 1, O), float32; the last row is what followed the last action.
        actions: Shape (T, A), float32.
        rewards: Shape (T,); ``rewards[t]`` is what ``actions[t]`` earned.
        terminated: The task itself ended (success, crash): no value follows.
        truncated: Only the recording of the episode ended, as at a time limit.
        infos: What else is known of each step, by name, shape (T,) each. Of a
            dataset that was loaded, those that were asked for.
        dataset: Number of its dataset, from 0, where several were loaded as one.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.floating[Any]]
    terminated: bool
    truncated: bool
    infos: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    dataset: int = 0

    def __len__(self) -> int:
        """Number of transitions, T."""
        return len(self.actions)


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset in memory.

    Attributes:
        spec: What the vectors mean; made from the spaces where the dataset brings none.
        episodes: The episodes in their stored order.
        source: Where it came from, for messages.
        metadata: The dataset's own metadata, as it is stored.
    """

    spec: PolicySpec
    episodes: tuple[Episode, ...]
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_transitions(self) -> int:
        """Number of transitions over all episodes."""
        return sum(len(episode) for episode in self.episodes)

    def chunks(self, horizon: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where chunks of ``horizon`` actions begin, and how many of each are recorded.

        Behind a termination no action matters any more, so that a chunk may have fewer there.
        Where an episode was cut off, what would have followed is not known, and none begins.

        Returns:
            The numbers of their first steps, counted over all episodes, ascending, all steps if
            ``horizon`` is 1; and their recorded actions, from 1 to ``horizon``. Shape (M,) each.
        """
        lengths = [len(episode) for episode in self.episodes]
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(sum(lengths))
        ends_well = np.repeat([episode.terminated for episode in self.episodes], lengths)
        starts = np.flatnonzero(ends_well | (left >= horizon))
        return starts, np.minimum(left[starts], horizon)

    def starts(self, horizon: int) -> NDArray[np.int64]:
        """Return where `chunks` begin, shape (M,)."""
        return self.chunks(horizon)[0]


def episode_digest(episode: Episode | LoggedEpisode) -> bytes:
    """Hash what was observed and done, of which rewards may be made anew."""
    digest = hashlib.blake2b(str(episode.actions.shape).encode(), digest_size=16)
    for array in (episode.observations, episode.actions):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def write_dataset(
    directory: Path,
    episodes: Iterable[Episode],
    spec: PolicySpec,
    *,
    description: str = "",
    extra_metadata: Mapping[str, Any] | None = None,
    may_be_empty: bool = False,
) -> None:
    """Write episodes as a Minari dataset in ``directory/data``; it appears whole or not at all.

    Args:
        directory: Folder of the dataset; `minari.MinariDataset(directory / "data")` opens it.
        episodes: At least one, whose widths agree with ``spec``; one is in memory at a time.
        spec: What the vectors mean; stored under the metadata key ``dql_policy_spec``.
        description: One sentence for the dataset's metadata.
        extra_metadata: Further JSON-ready metadata.
        may_be_empty: Whether there may be no episode: nothing but a part of a dataset, since
            `load_dataset` refuses it.

    Raises:
        DatasetError: If there is no episode, a shape disagrees with ``spec``, or a dataset is
            already there.
    """
    target = directory.absolute() / DATA_FOLDER  # Minari appends a relative path to itself
    metadata = {
        "dataset_id": f"{re.sub(r'[^-_0-9A-Za-z]', '_', spec.robot) or 'robot'}-v0",
        "minari_version": minari.__version__,
        "algorithm_name": "logged",
        "description": description,
        SPEC_KEY: json.dumps(spec.to_json()),
        **(extra_metadata or {}),
    }
    with atomic_directory(target, error=DatasetError) as temporary:
        storage = MinariStorage.new(
            temporary,
            observation_space=_box(spec.observation),
            action_space=_box(spec.action),
            data_format="hdf5",
        )
        storage.update_metadata(metadata)
        buffers = _buffers(directory, episodes, spec, may_be_empty=may_be_empty)
        # An open HDF5 file keeps what it knows of each episode in memory.
        while group := list(islice(buffers, EPISODES_AT_ONCE)):
            _require_room(temporary, group)
            storage.update_episodes(group)


def load_dataset(
    source: str | Path, *, bounds_matter: bool = True, infos: Sequence[str] = ()
) -> LoadedDataset:
    """Load a Minari dataset, stored as HDF5 or Arrow, into memory.

    Episodes without a transition are left out, and their number is logged.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a Minari id.
        bounds_matter: Refuse an action space without finite bounds; else they become -1 and 1.
        infos: Names of infos that are wanted of the episodes that have them.

    Raises:
        DatasetError: If there is no such dataset, it is damaged, or its spaces do not fit (see
            `spec_from_spaces`).
    """
    where = str(source)
    reader = EpisodeReader(
        find_dataset(source).absolute(), where, bounds_matter=bounds_matter, infos=infos
    )
    stored = [episode_of(each, where) for each in reader]
    episodes = tuple(episode for episode in stored if len(episode))
    if not episodes:
        raise DatasetError(_empty(where, 0))
    if empty := len(stored) - len(episodes):
        _logger.warning("%s: %d of %d episodes are empty: left out", where, empty, len(stored))
    return LoadedDataset(reader.metadata.spec, episodes, where, reader.metadata.document)


def load_datasets(sources: Sequence[str | Path], infos: Sequence[str] = ()) -> LoadedDataset:
    """Load one dataset or several, and join their episodes in this order.

    Their numbers must mean the same. Limits may differ, of which the looser ones hold, and so may
    all that does not say what a number means, as ages, rewards and ends of episodes.

    Args:
        sources: At least one; see `load_dataset`.
        infos: Likewise.

    Raises:
        DatasetError: If one cannot be read or is named twice.
        SpecMismatchError: If their numbers mean different things, naming each key and both values.
    """
    places = [Path(source).resolve() for source in sources]
    for place in places:
        if places.count(place) > 1:
            raise DatasetError(f"{place}: named twice; name each dataset once")
    whole, *others = (load_dataset(source, infos=infos) for source in sources)
    for number, other in enumerate(others, start=1):
        whole.spec.require_same_meaning(
            other.spec,
            f"dataset {whole.source}",
            f"dataset {other.source}",
            "convert both with one contract",
        )
        whole = replace(
            whole,
            spec=whole.spec.joined(other.spec),
            episodes=whole.episodes
            + tuple(replace(episode, dataset=number) for episode in other.episodes),
            source=f"{whole.source} and {other.source}",
        )
    return whole


def episode_of(stored: StoredEpisode, where: str) -> Episode:
    """Return an episode as it is written, of one that was read.

    Args:
        stored: What was read.
        where: The dataset's name, for messages.

    Raises:
        DatasetError: If a step before the last one is marked as an end.
    """
    logged, length = stored.episode, len(stored.episode)
    if stored.early_end is not None:
        raise DatasetError(
            f"{where}: episode {stored.index} ends at step {stored.early_end} of {length}; an "
            f"episode must end with its last transition"
        )
    ends = logged.terminated, logged.truncated
    infos = {name: of_steps(values, length) for name, values in stored.infos.items()}
    return Episode(logged.observations, logged.actions, stored.rewards, *ends, infos)


def _require_room(folder: Path, group: Sequence[EpisodeBuffer]) -> None:
    """Refuse to go on where the disk is full, since HDF5 would end the whole process."""
    written = sum(file.stat().st_size for file in folder.iterdir())
    size = sum(
        np.asarray(array).nbytes
        for buffer in group
        for array in (
            *(buffer.observations, buffer.actions, buffer.rewards),
            *(buffer.infos or {}).values(),
        )
    )
    require_room(folder, 2 * size + HDF5_EPISODE_BYTES * len(group), written)


def _box(fields: tuple[FieldSpec, ...]) -> Box:
    low = np.array([bounds.low for bounds in fields], dtype=np.float32)
    high = np.array([bounds.high for bounds in fields], dtype=np.float32)
    return Box(low, high, dtype=np.float32)


def _buffers(
    where: Path, episodes: Iterable[Episode], spec: PolicySpec, *, may_be_empty: bool
) -> Iterator[EpisodeBuffer]:
    index = -1
    for index, episode in enumerate(episodes):
        _require_shape(str(where), index, episode, spec)
        ended = np.zeros((2, len(episode)), dtype=bool)
        ended[:, -1] = episode.terminated, episode.truncated
        yield EpisodeBuffer(
            observations=np.asarray(episode.observations, dtype=np.float32),
            actions=np.asarray(episode.actions, dtype=np.float32),
            rewards=np.asarray(episode.rewards),
            terminations=ended[0],
            truncations=ended[1],
            infos={name: to_store(values) for name, values in episode.infos.items()} or None,
        )
    if index < 0 and not may_be_empty:
        raise DatasetError(f"{where}: no episode to write; check the episode rules and the bags")


def _require_shape(where: str, index: int, episode: Episode, spec: PolicySpec) -> None:
    length = len(episode)
    if length == 0:
        raise DatasetError(_empty(where, index))
    shapes = {
        "observations": (episode.observations.shape, (length + 1, len(spec.observation))),
        "actions": (episode.actions.shape, (length, len(spec.action))),
        "rewards": (episode.rewards.shape, (length,)),
        **{f"infos/{name}": (each.shape, (length,)) for name, each in episode.infos.items()},
    }
    for name, (found, needed) in shapes.items():
        if found != needed:
            raise DatasetError(
                f"{where}: {name} of episode {index} have shape {found}, the spec of "
                f"'{spec.robot}' needs {needed}"
            )


def _empty(where: str, index: int) -> str:
    return f"{where}: episode {index} is empty; it needs at least one transition"


def find_dataset(source: str | Path) -> Path:
    """Return the data folder of a dataset.

    Args:
        source: The folder that holds ``data/``, the data folder itself, or a local Minari id.

    Raises:
        DatasetError: If there is no such dataset.
    """
    try:
        return _found(source)
    except (OSError, ValueError) as cause:
        # A name that is too long, or not to be looked at.
        raise DatasetError(f"{source}: no dataset: {getattr(cause, 'strerror', cause)}") from cause


def require_outside(out: Path, data_path: Path, source: str | Path) -> None:
    """Refuse to write into a dataset that is only to be read.

    Args:
        out: Where something is to appear, absolute; links on the way are followed.
        data_path: The dataset's data folder, absolute; likewise.
        source: The dataset's name, for the message.

    Raises:
        DatasetError: If ``out`` is the data folder, or lies in it.
    """
    place = out.resolve()
    if data_path.resolve() in (place, *place.parents):
        raise DatasetError(f"{out}: lies inside the dataset {source}; name another --out folder")


def _found(source: str | Path) -> Path:
    folder = Path(source)
    for place in _places(folder):
        if place.is_file():
            candidate = place.parent
            if candidate.is_symlink() and candidate != folder:
                raise DatasetError(
                    f"{candidate}: is a link; name the folder that it leads to instead of {source}"
                )
            return candidate
    if folder.exists():
        raise DatasetError(
            f"{source}: holds no Minari dataset (no {DATA_FOLDER}/{METADATA_FILE}); "
            f"make one with 'dql convert' or 'dql import'"
        )
    if _MINARI_ID.fullmatch(str(source)):
        # Minari's own function would make the folder where it keeps datasets.
        home = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
        stored = Path(home) / str(source) / DATA_FOLDER
        if stored.is_dir():
            return stored
    siblings = folder.parent.glob("*/") if folder.parent.is_dir() else ()
    # Those that may not be looked into are passed over.
    datasets = [each for each in siblings if any(map(os.path.isfile, _places(each)))]
    raise DatasetError(
        f"{source}: neither a folder nor a local Minari id{did_you_mean_path(folder, datasets)}"
    )


def _places(folder: Path) -> tuple[Path, Path]:
    """Where the file may lie by which a dataset's folder is known."""
    return folder / DATA_FOLDER / METADATA_FILE, folder / METADATA_FILE
