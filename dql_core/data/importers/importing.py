"""From a file of D4RL, d3rlpy 1.x or the imitation library to a Minari dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, write_dataset
from dql_core.data.importers.files import (
    FileContent,
    flags,
    flat_rows,
    hdf5_names,
    read_hdf5,
    read_npz,
    require_continuous,
    require_rows,
)
from dql_core.data.spaces import make_env, spec_from_spaces
from dql_core.errors import ConfigError, DatasetError
from dql_core.spec import PolicySpec

FileFormat = Literal["d3rlpy", "d4rl", "npz"]


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


def _read_d4rl(path: Path, time_limit: int | None = None) -> FileContent:
    """Read observations, actions, rewards, terminals and, where there are, timeouts.

    The transitions are those of `d4rl.qlearning_dataset`, which leaves out the last step of an
    episode that timed out. Where `next_observations` do not go on in the next row, an episode
    ends as well.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    names = hdf5_names(path)
    if "episode_terminals" in names:
        raise DatasetError(f"{path}: is a file of d3rlpy; give --format d3rlpy")
    return _read_rows(path, time_limit, ends="timeouts", optional=["next_observations"])


def _read_d3rlpy(path: Path, time_limit: int | None = None) -> FileContent:
    """Read observations, actions, rewards, terminals and episode_terminals, one row a step.

    ``episode_terminals`` end an episode and ``terminals`` the task. As in d3rlpy 1.x, the last
    row of an episode is a transition only if the task ended.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    names = hdf5_names(path)
    if "timeouts" in names:
        raise DatasetError(f"{path}: is a file of D4RL; give --format d4rl")
    if "version" not in names and "discrete_action" in names:
        raise DatasetError(
            f"{path}: was written by d3rlpy before 1.0, where a reward belongs to the step "
            f"before; load it with d3rlpy 1.x, check the rewards, and dump it again"
        )
    return _read_rows(path, time_limit, ends="episode_terminals", optional=["discrete_action"])


def _read_rows(
    path: Path, time_limit: int | None, *, ends: str, optional: Sequence[str]
) -> FileContent:
    """Read a flat file in which ``ends`` are the other ends of episodes beside terminals."""
    arrays = read_hdf5(
        path, ["observations", "actions", "rewards", "terminals"], [ends, *optional]
    )
    observations, actions = arrays["observations"], arrays["actions"]
    is_discrete = bool(np.any(arrays.pop("discrete_action", False)))
    require_continuous(path, observations, actions, discrete=is_discrete)
    if ends == "timeouts" and ends not in arrays and time_limit is None:
        raise DatasetError(
            f"{path}: holds no 'timeouts', so that it does not say where one episode ends and "
            f"the next begins; give --time-limit with the environment's number of steps"
        )
    for name in ("rewards", "terminals", ends):
        if name in arrays:
            arrays[name] = arrays[name].reshape(-1)
    require_rows(path, len(actions), **arrays)
    following = arrays.get("next_observations")
    rows = _Rows(
        observations=flat_rows(observations),
        actions=flat_rows(actions),
        rewards=arrays["rewards"].astype(np.float64),
        terminals=flags(path, "terminals", arrays["terminals"]),
        ends=flags(path, ends, arrays[ends]) if ends in arrays else None,
        next_observations=None if following is None else flat_rows(following),
    )
    episodes, notes = _cut_episodes(rows, time_limit, path)
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], notes)


@dataclass(frozen=True)
class _Rows:
    """N steps of many episodes; row i + 1 follows row i unless an episode ends there.

    Attributes:
        observations: What each action was taken in, shape (N, O).
        actions: Shape (N, A).
        rewards: What each action earned, shape (N,).
        terminals: Where the task itself ended, shape (N,).
        ends: Where the recording of an episode ended for another reason, shape (N,); ``None`` if
            the file does not say.
        next_observations: What followed each action, shape (N, O), if the file says.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    terminals: NDArray[np.bool_]
    ends: NDArray[np.bool_] | None
    next_observations: NDArray[np.float32] | None = None


def _cut_episodes(
    rows: _Rows, time_limit: int | None, path: Path
) -> tuple[tuple[Episode, ...], tuple[str, ...]]:
    """Cut rows into episodes; return them, and notes on what was changed or left out.

    The last action of an episode that did not terminate has no successor in the file, so that it
    makes no transition (as in d3rlpy 1.x and in `d4rl.qlearning_dataset`). ``time_limit`` cuts an
    episode off: a termination after so many steps is none, and where the file does not say where
    episodes end, they end there.
    """
    spans = _spans(rows, time_limit, path)
    cut = [_episode(rows, first, stop, time_limit) for first, stop in spans]
    episodes = tuple(episode for episode in cut if len(episode))
    return episodes, tuple(_notes(rows, spans, cut, time_limit))


def _spans(rows: _Rows, time_limit: int | None, path: Path) -> list[tuple[int, int]]:
    """Return the first row of each episode and the row after its last one."""
    count = len(rows.actions)
    last = rows.terminals | _jumps(rows)
    if rows.ends is not None:
        last = last | rows.ends
    stops = [*(np.flatnonzero(last[:-1]) + 1).tolist(), count]
    spans = []
    for first, stop in zip([0, *stops], stops, strict=False):
        step = stop - first
        if time_limit and step > time_limit:
            if rows.ends is not None:
                raise DatasetError(
                    f"{path}: the episode that starts in row {first} has {step} steps, and "
                    f"--time-limit is {time_limit}; give the environment's limit, or none"
                )
            step = time_limit
        spans += [(start, min(start + step, stop)) for start in range(first, stop, step)]
    return spans


def _jumps(rows: _Rows) -> NDArray[np.bool_]:
    """Find where the next row does not hold what followed the action."""
    jumps = np.zeros(len(rows.actions), dtype=bool)
    if rows.next_observations is not None:
        near = np.isclose(rows.next_observations[:-1], rows.observations[1:], rtol=1e-4, atol=1e-6)
        jumps[:-1] = ~near.all(axis=1)
    return jumps


def _episode(rows: _Rows, first: int, stop: int, time_limit: int | None) -> Episode:
    last = stop - 1
    at_limit = stop - first == time_limit
    terminated = bool(rows.terminals[last]) and not at_limit
    cut_off = at_limit or (rows.ends is not None and bool(rows.ends[last]))
    observations = rows.observations[first:stop]
    if rows.next_observations is not None and (terminated or not cut_off):
        observations = np.concatenate([observations, rows.next_observations[last:stop]])
    elif terminated:  # no value follows, so that any observation does
        observations = np.concatenate([observations, observations[-1:]])
    length = len(observations) - 1
    return Episode(
        observations=observations,
        actions=rows.actions[first : first + length],
        rewards=rows.rewards[first : first + length],
        terminated=terminated,
        truncated=not terminated,
    )


def _notes(
    rows: _Rows, spans: list[tuple[int, int]], cut: list[Episode], time_limit: int | None
) -> list[str]:
    left_out = len(rows.actions) - sum(len(episode) for episode in cut)
    empty = sum(len(episode) == 0 for episode in cut)
    limits = sum(
        bool(rows.terminals[stop - 1]) and not episode.terminated
        for (_, stop), episode in zip(spans, cut, strict=True)
    )
    notes = []
    if limits:
        notes.append(f"{limits} terminations after {time_limit} steps are time limits: truncated")
    if left_out:
        notes.append(
            f"{left_out} of {len(rows.actions)} rows make no transition: each is the last one of "
            f"an episode without a termination, and what followed it is not in the file (with "
            f"their rewards the mean return is {rows.rewards.sum() / len(spans):.4f})"
        )
    if empty:
        notes.append(f"{empty} episodes of a single such row are left out")
    return notes


def _read_imitation(path: Path, time_limit: int | None = None) -> FileContent:
    """Read obs (T + 1 rows an episode), acts, rews, indices (where acts are split) and terminal.

    Args:
        path: The file; its ``infos``, which are pickles, stay closed.
        time_limit: The library calls an episode ``terminal`` that merely reached the end of its
            time; one that has so many steps is taken as truncated.

    Raises:
        DatasetError: If the file is of another kind, or its spaces cannot be learned.
    """
    arrays = read_npz(path, ["obs", "acts", "indices", "terminal"], ["rews"])
    observations, actions = arrays["obs"], arrays["acts"]
    require_continuous(path, observations, actions)
    stops = [*_splits(arrays["indices"], len(actions), path), len(actions)]
    notes = []
    if "rews" not in arrays:
        notes.append("the file holds no rewards ('rews'): all are 0, for agent: diffusion_bc")
    rewards = arrays.get("rews", np.zeros(len(actions))).astype(np.float64).reshape(-1)
    terminal = arrays["terminal"].reshape(-1)
    require_rows(path, len(actions) + len(stops), obs=observations)
    require_rows(path, len(actions), rews=rewards)
    require_rows(path, len(stops), terminal=terminal)
    terminal = flags(path, "terminal", terminal)
    terminated = _terminated(terminal, np.diff(stops, prepend=0), time_limit, path)
    flat_observations, flat_actions = flat_rows(observations), flat_rows(actions)
    episodes = tuple(
        Episode(
            # Each episode before has one more observation than actions.
            observations=flat_observations[first + index : stop + index + 1],
            actions=flat_actions[first:stop],
            rewards=rewards[first:stop],
            terminated=ended,
            truncated=not ended,
        )
        for index, (first, stop, ended) in enumerate(
            zip([0, *stops], stops, terminated.tolist(), strict=False)
        )
    )
    limits = int(terminal.sum() - terminated.sum())
    if limits:
        notes.append(f"{limits} terminations after {time_limit} steps are time limits: truncated")
    return FileContent(episodes, observations.shape[1:], actions.shape[1:], tuple(notes))


def _splits(indices: NDArray[Any], count: int, path: Path) -> list[int]:
    """Return where the actions are split into episodes."""
    within = indices.ndim == 1 and np.all((indices >= 0) & (indices <= count))
    if indices.size and not (
        within and indices.dtype.kind in "iu" and np.all(indices[:-1] <= indices[1:])
    ):
        raise DatasetError(
            f"{path}: 'indices' are not rising numbers from 0 to {count}, the number of actions; "
            f"the file is damaged or of another format"
        )
    splits: list[int] = indices.reshape(-1).tolist()
    return splits


def _terminated(
    terminal: NDArray[np.bool_], lengths: NDArray[np.int64], time_limit: int | None, path: Path
) -> NDArray[np.bool_]:
    if time_limit is None:
        return terminal
    if lengths.max() > time_limit:
        raise DatasetError(
            f"{path}: episode {int(lengths.argmax())} has {lengths.max()} steps, and --time-limit "
            f"is {time_limit}; give the environment's limit, or none"
        )
    return terminal & (lengths < time_limit)


_READERS: dict[FileFormat, Callable[[Path, int | None], FileContent]] = {
    "d3rlpy": _read_d3rlpy,
    "d4rl": _read_d4rl,
    "npz": _read_imitation,
}
