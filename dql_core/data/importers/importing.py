"""From a file or folder of another library to a Minari dataset.

Also from a Minari dataset to one with other action bounds.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.data.dataset import (
    Episode,
    find_dataset,
    load_dataset,
    require_outside,
    write_dataset,
)
from dql_core.data.importers.files import FileContent
from dql_core.data.importers.formats import FileFormat
from dql_core.data.importers.lerobot import read_lerobot
from dql_core.data.importers.npz_files import read_npz_file
from dql_core.data.importers.replay_buffer import read_replay_buffer
from dql_core.data.importers.robomimic import read_robomimic
from dql_core.data.importers.row_files import read_d3rlpy, read_d4rl
from dql_core.data.metadata import INPUTS_KEY, NO_REWARDS_KEY, has_rewards
from dql_core.data.spaces import make_env, spec_from_spaces
from dql_core.documents import file_sha256
from dql_core.errors import ConfigError, DatasetError
from dql_core.spec import PolicySpec


@dataclass(frozen=True)
class ImportResult:
    """What was written.

    Attributes:
        spec: The dataset's spec.
        episodes: The dataset's episodes.
        notes: What was left out, changed or assumed, one line each.
        has_rewards: False where the file has none, so that all are 0.
    """

    spec: PolicySpec
    episodes: tuple[Episode, ...]
    notes: tuple[str, ...]
    has_rewards: bool = True


def import_file(
    path: Path,
    file_format: FileFormat,
    directory: Path,
    *,
    time_limit: int | None = None,
    env_id: str | None = None,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    observations: Sequence[str] = (),
) -> ImportResult:
    """Turn another library's data, or a Minari dataset of no bounds, into a Minari dataset.

    Args:
        path: The file, or the dataset's folder.
        file_format: What wrote it.
        directory: Folder of the dataset to make.
        time_limit: Steps after which an episode of this environment is cut off.
        env_id: Gymnasium id of the environment that the data is from: its spaces count.
        low: Lower bounds of the actions, one for each or one for all.
        high: Upper bounds of the actions, likewise.
        observations: What makes an observation, where the file has several arrays for it.

    Raises:
        ConfigError: If the options contradict each other or the data.
        DatasetError: If the file cannot be read or learned from, or ``directory`` holds a
            dataset already or lies inside the one that is read.
    """
    if file_format == "minari":
        require_outside(directory.absolute(), find_dataset(path).absolute(), path)
    if len(set(observations)) < len(observations):
        raise ConfigError(f"--observations {','.join(observations)}: names one twice")
    if file_format in _CHOOSING_READERS:
        content = _CHOOSING_READERS[file_format](path, time_limit, observations)
    elif observations:
        raise ConfigError(
            f"--observations does not go with --format {file_format}, which has one array of them"
        )
    else:
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
            if np.isnan(low).any():
                raise DatasetError(
                    f"{path}: the actions hold no number in place {int(np.isnan(low).argmax())}, "
                    f"but NaN only; correct the file"
                )
            notes.append(
                f"the action bounds are the extremes of the data, {_text(low)} to {_text(high)}: "
                f"give --env, or --low and --high, if the real ones differ"
            )
        spec = _spec_of_content(content, path, low, high)
    result = ImportResult(spec, content.episodes, tuple(notes), content.has_rewards)
    write_dataset(
        directory,
        content.episodes,
        spec,
        description=f"Imported from {path.name} by dql import --format {file_format}.",
        extra_metadata={
            INPUTS_KEY: json.dumps(_hashes(content.files or (path,))),
            "dql_import_notes": json.dumps(result.notes),
            **({} if content.has_rewards else {NO_REWARDS_KEY: True}),
        },
    )
    return result


def _hashes(files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name in the folder that holds all of them."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    return {str(each.relative_to(folder)): file_sha256(each) for each in files}


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
    lows, highs = _bounds("--low", low, content), _bounds("--high", high, content)
    if (wrong := lows > highs).any():
        raise ConfigError(f"--low {lows[wrong][0]:g} is above --high {highs[wrong][0]:g}")
    action_space = Box(lows, highs, dtype=np.float32)
    observation_space = Box(-np.inf, np.inf, content.observation_shape)
    spec = spec_from_spaces(observation_space, action_space, path.stem, str(path))
    if content.spec is None:
        return spec
    action = tuple(
        dataclasses.replace(own, low=field.low, high=field.high)
        for own, field in zip(content.spec.action, spec.action, strict=True)
    )
    return dataclasses.replace(content.spec, action=action)


def _bounds(option: str, numbers: Sequence[float], content: FileContent) -> NDArray[np.float32]:
    width = content.episodes[0].actions.shape[1]
    if len(numbers) not in {1, width}:
        raise ConfigError(
            f"{option} has {len(numbers)} numbers and an action has {width}; give one for each, "
            f"or one for all"
        )
    if np.isnan(numbers).any():
        raise ConfigError(f"{option} is nan; give numbers")
    with np.errstate(over="ignore"):  # an infinite bound is refused as such
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


def _read_minari(path: Path, time_limit: int | None = None) -> FileContent:
    """Read a Minari dataset, whatever the bounds of its action space are.

    Raises:
        ConfigError: If there is a time limit; the dataset says how its episodes end.
        DatasetError: If it is damaged, or of a contract, which states the bounds.
    """
    if time_limit is not None:
        raise ConfigError("a Minari dataset says how its episodes end; leave --time-limit out")
    dataset = load_dataset(path, bounds_matter=False)
    if dataset.spec.contract_hash:
        raise DatasetError(
            f"{path}: was converted with a contract; change the bounds there, and convert again"
        )
    widths = (len(dataset.spec.observation),), (len(dataset.spec.action),)
    files = (file for file in sorted(find_dataset(path).rglob("*")) if file.is_file())
    return FileContent(
        dataset.episodes,
        *widths,
        spec=dataset.spec,
        has_rewards=has_rewards(dataset.metadata),
        files=tuple(files),
    )


_READERS: dict[FileFormat, Callable[[Path, int | None], FileContent]] = {
    "d3rlpy": read_d3rlpy,
    "d4rl": read_d4rl,
    "minari": _read_minari,
    "npz": read_npz_file,
}
# These have several arrays that an observation can be made of.
_CHOOSING_READERS: dict[FileFormat, Callable[[Path, int | None, Sequence[str]], FileContent]] = {
    "lerobot": read_lerobot,
    "robomimic": read_robomimic,
    "zarr": read_replay_buffer,
}
