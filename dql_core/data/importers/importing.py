"""From a flat file of another library to a Minari dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, write_dataset
from dql_core.data.importers.files import FileContent
from dql_core.data.importers.formats import read_d3rlpy, read_d4rl, read_imitation
from dql_core.data.spaces import make_env, spec_from_spaces
from dql_core.errors import ConfigError, DatasetError
from dql_core.spec import PolicySpec

FileFormat = Literal["d3rlpy", "d4rl", "npz"]

_READERS: dict[FileFormat, Callable[[Path, int | None], FileContent]] = {
    "d3rlpy": read_d3rlpy,
    "d4rl": read_d4rl,
    "npz": read_imitation,
}


@dataclass(frozen=True)
class ImportResult:
    """What was written.

    Attributes:
        spec: The dataset's spec.
        episodes: The dataset's episodes.
        notes: What was left out, changed or assumed, one line each.
    """

    spec: PolicySpec
    episodes: tuple[Episode, ...]
    notes: tuple[str, ...]


def import_file(
    path: Path,
    file_format: FileFormat,
    directory: Path,
    *,
    time_limit: int | None = None,
    env_id: str | None = None,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> ImportResult:
    """Turn a flat file into a Minari dataset.

    Args:
        path: The file.
        file_format: What wrote it.
        directory: Folder of the dataset to make.
        time_limit: Steps after which an episode of this environment is cut off.
        env_id: Gymnasium id of the environment that the data is from: its spaces count.
        low: Lower bounds of the actions, one for each or one for all.
        high: Upper bounds of the actions, likewise.

    Raises:
        ConfigError: If the options contradict each other or the data.
        DatasetError: If the file cannot be read or learned from, or ``directory`` holds a
            dataset already.
    """
    content = _READERS[file_format](path, time_limit)
    if not content.episodes:
        raise DatasetError(f"{path}: holds no transition")
    if env_id and (low is not None or high is not None):
        raise ConfigError("--env states the action bounds; leave --low and --high out, or --env")
    notes = [*content.notes, *_suspicious_terminations(content.episodes)]
    if env_id:
        spec = _spec_of_env(env_id, content, path)
    else:
        if low is None and high is None:
            actions = np.concatenate([episode.actions for episode in content.episodes])
            # NaN, which training refuses with its place, says nothing on bounds.
            low, high = np.fmin.reduce(actions).tolist(), np.fmax.reduce(actions).tolist()
            notes.append(
                f"the action bounds are the extremes of the data, {_text(low)} to {_text(high)}: "
                f"give --env, or --low and --high, if the real ones differ"
            )
        spec = _spec_of_content(content, path, low, high)
    result = ImportResult(spec, content.episodes, tuple(notes))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    write_dataset(
        directory,
        content.episodes,
        spec,
        description=f"Imported from {path.name} by dql import --format {file_format}.",
        extra_metadata={
            "dql_inputs": json.dumps({path.name: sha256}),
            "dql_import_notes": json.dumps(result.notes),
        },
    )
    return result


def _spec_of_env(env_id: str, content: FileContent, path: Path) -> PolicySpec:
    env = make_env(env_id, "give another --env, or --low and --high instead")
    spec = spec_from_spaces(env.observation_space, env.action_space, env_id, env_id)
    env.close()
    first = content.episodes[0]
    found = first.observations.shape[1], first.actions.shape[1]
    needed = len(spec.observation), len(spec.action)
    if found != needed:
        raise ConfigError(
            f"{path}: has {found[0]} observation and {found[1]} action fields, and '{env_id}' has "
            f"{needed[0]} and {needed[1]}; give the environment that the data is from"
        )
    return spec


def _spec_of_content(
    content: FileContent, path: Path, low: Sequence[float] | None, high: Sequence[float] | None
) -> PolicySpec:
    if low is None or high is None:
        raise ConfigError("--low and --high bound the actions together; give both or none")
    action_space = Box(
        _bounds("--low", low, content), _bounds("--high", high, content), dtype=np.float32
    )
    observation_space = Box(-np.inf, np.inf, content.observation_shape)
    return spec_from_spaces(observation_space, action_space, path.stem, str(path))


def _bounds(option: str, numbers: Sequence[float], content: FileContent) -> NDArray[np.float32]:
    width = content.episodes[0].actions.shape[1]
    if len(numbers) not in {1, width}:
        raise ConfigError(
            f"{option} has {len(numbers)} numbers and an action has {width}; give one for each, "
            f"or one for all"
        )
    each = np.broadcast_to(np.array(numbers, dtype=np.float32), (width,))
    return each.reshape(content.action_shape)


def _suspicious_terminations(episodes: Sequence[Episode]) -> list[str]:
    lengths = {len(episode) for episode in episodes}
    if len(episodes) > 1 and len(lengths) == 1 and all(e.terminated for e in episodes):
        (length,) = lengths
        if length > 1:
            return [
                f"all {len(episodes)} episodes terminate after {length} steps: if that is a time "
                f"limit, import again with --time-limit {length}, or values stop there"
            ]
    return []


def _text(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
