"""The policies of runs, checkpoints and bundles, to be judged by recorded episodes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from dql_core.algo.noise import RunSeeds
from dql_core.algo.policy_graph import TorchPolicy
from dql_core.algo.torch_backend import rebuild
from dql_core.config import TrainConfig
from dql_core.data.checks import check_dataset
from dql_core.data.dataset import Episode, LoadedDataset, load_datasets
from dql_core.data.transitions import split_episodes
from dql_core.documents import CHECKPOINT_FILE
from dql_core.errors import (
    BundleError,
    CheckpointError,
    ConfigError,
    DatasetError,
    DqlError,
    listed,
)
from dql_core.evaluation.offline.judging import Candidate
from dql_core.evaluation.offline.recording import require_rewards
from dql_core.normalize import Normalizer
from dql_core.runtime.manifest import MANIFEST_FILE, read_bundle
from dql_core.runtime.policy import Choice
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.initial import config_of, dataset_of
from dql_core.training.preparation import load_training_data, share_to_hold_out
from dql_core.training.run_files import (
    ALL,
    CONFIG_FILE,
    CheckpointName,
    checkpoint_folder,
    checkpoint_steps,
    find_checkpoint,
    is_known_to_diverge,
    read_run_info,
)
from dql_core.training.run_folder import fingerprint
from dql_core.training.saved_config import saved_config


class _Found(NamedTuple):
    """A candidate, how it was trained, and what tells its data from others, if known."""

    candidate: Candidate
    config: TrainConfig
    data: str | None


class Policies:
    """What a user points at, as candidates: runs with some of their checkpoints, and bundles.

    Args:
        paths: Runs, checkpoints and bundles, at least one.
        checkpoints: Which ones of each run: ``all``, or names and steps with commas between them.
        dataset: Where the data now lies that all of them learned from; by default where each says.

    Attributes:
        discounts: The discounts that they were trained with.

    Raises:
        BundleError: If a bundle is damaged.
        CheckpointError: If there is no such run or checkpoint, or it is damaged.
        ConfigError: If a checkpoint's name is none.
    """

    def __init__(
        self, paths: Sequence[Path], checkpoints: str = ALL, dataset: str | None = None
    ) -> None:
        self.discounts: set[float] = set()
        self._dataset = dataset
        self._trained_on: dict[str, list[NDArray[np.int64]] | str] = {}
        self._found = [
            found
            for path in paths
            for found in (
                [self._bundle(path)]
                if os.path.lexists(path / MANIFEST_FILE)
                else [self._checkpoint(each) for each in _checkpoints(path, checkpoints)]
            )
        ]

    def for_episodes(self, dataset: LoadedDataset) -> list[Candidate]:
        """Return the candidates, with what speaks against judging them by these episodes."""
        asked = [_steps(episode) for episode in dataset.episodes]
        remarks: dict[str, list[str]] = {}
        for found in self._found:
            if (key := _training_key(found)) not in remarks:
                remarks[key] = self._overlap(found, asked)
        return [
            replace(
                found.candidate,
                remarks=(*found.candidate.remarks, *remarks[_training_key(found)]),
            )
            for found in self._found
        ]

    def _checkpoint(self, folder: Path) -> _Found:
        run = load_checkpoint(folder)
        policy = run.policy()
        diverged = is_known_to_diverge(folder, run.step)
        candidate = Candidate(
            name=str(folder),
            policy=policy,
            spec=run.spec,
            num_candidates=policy.choice.num_candidates,
            statistics=run.data_statistics,
            facts=_facts(folder, run.config, run.step, policy.choice)
            | {"run": str(folder.parents[1])},
            remarks=(
                *(("its critics had diverged in training",) if diverged else ()),
                *_of_chunks(run.config),
            ),
        )
        self.discounts.add(run.config.critic.discount)
        return _Found(candidate, run.config, dataset_of(folder))

    def _bundle(self, folder: Path) -> _Found:
        manifest, contents = read_bundle(folder)
        try:
            graph = rebuild(manifest, contents)
        except BundleError as cause:
            raise BundleError(f"{folder}: {cause}") from cause
        choice = Choice(manifest.num_candidates, manifest.selection)
        spec, normalizer = manifest.policy_spec, manifest.observation_normalizer
        config = parse(manifest.config, TrainConfig, MANIFEST_FILE, BundleError)
        candidate = Candidate(
            name=str(folder),
            policy=TorchPolicy(graph, spec, choice, normalizer),
            spec=spec,
            num_candidates=choice.num_candidates,
            statistics=manifest.data_statistics,
            facts=_facts(folder, config, manifest.step, choice),
            remarks=_of_chunks(config),
        )
        self.discounts.add(config.critic.discount)
        kept = config.init.run and config.init.normalizer == "kept"  # it has seen more
        return _Found(candidate, config, None if kept else _extent_of(manifest.data_statistics))

    def _overlap(self, found: _Found, asked: list[NDArray[np.int64]]) -> list[str]:
        """Say how many of the episodes were trained on, if any, or that nobody knows."""
        key = _training_key(found)
        if key not in self._trained_on:
            config = found.config
            if self._dataset:
                data = config.data.model_copy(update={"dataset": self._dataset})
                config = config.model_copy(update={"data": data})
            self._trained_on[key] = _learned_steps(config, found.data)
        learned = self._trained_on[key]
        if isinstance(learned, str):
            return [f"whether it was trained on these episodes is unknown: {learned}"]
        if seen := _count_learned(asked, learned):
            return [f"it was trained on {seen} of these {len(asked)} episodes, which flatters it"]
        return []


def held_out_episodes(paths: Sequence[Path]) -> LoadedDataset:
    """Return the episodes that the first of several policies' runs kept from its training.

    Raises:
        ConfigError: If it is no run or held out none.
        CheckpointError: If it is damaged.
        DatasetError: If its dataset cannot be read, has changed, or has no rewards to judge by.
    """
    run = paths[0]
    remedy = "name held-out episodes with --dataset"
    if (run / CHECKPOINT_FILE).is_file():
        run = run.absolute().parents[1]
    if not os.path.lexists(run / CONFIG_FILE):
        raise ConfigError(f"{run}: is no run, which could have held episodes out; {remedy}")
    config = saved_config(run)
    data = load_training_data(config)
    require_rewards(data.recorded)
    if data.held_out is None:
        share = share_to_hold_out(data.recorded, config)
        other = (
            f"train again with --set validation.held_out={share:g}"
            if share
            else f"record more episodes ({data.recorded.source} has too few to hold some out: "
            f"{len(data.recorded.episodes)}) and train again"
        )
        raise ConfigError(
            f"{run}: held out no episodes (validation.held_out is 0); {remedy}, or {other}"
        )
    if read_run_info(run)["dataset"].get("sha256") != fingerprint(data.recorded):
        raise DatasetError(
            f"{data.recorded.source}: has changed since {run} was trained on it; {remedy}"
        )
    return data.held_out


def _checkpoints(path: Path, which: str) -> list[Path]:
    """Return folders of checkpoints, in the order of their steps."""
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder, checkpoint or bundle")
    if (path / CHECKPOINT_FILE).is_file():
        return [path]
    steps = checkpoint_steps(path)
    if not steps:
        return [find_checkpoint(path)]  # raises
    if which == ALL:
        return [checkpoint_folder(path, step) for step in steps]
    return sorted({_checkpoint(path, name.strip(), steps) for name in which.split(",")})


def _checkpoint(run: Path, name: str, steps: list[int]) -> Path:
    if name in get_args(CheckpointName):
        return find_checkpoint(run, name)  # type: ignore[arg-type] # it is one of them
    if not name.isdecimal() or int(name) not in steps:
        known = listed([*map(str, steps)], most=len(steps) if len(steps) < 20 else 4)
        raise ConfigError(
            f"{run}: --checkpoints names '{name:.80}': it must be all, "
            f"{', '.join(get_args(CheckpointName))} or a step of it: {known}"
        )
    return checkpoint_folder(run, int(name))


def _of_chunks(config: TrainConfig) -> tuple[str, ...]:
    if config.policy.horizon == 1:
        return ()
    return (
        f"of each of its chunks of {config.policy.horizon} actions the first is judged, as if it "
        f"decided in every step",
    )


def _facts(
    path: Path, config: TrainConfig, step: int, choice: Choice
) -> dict[str, str | int | float]:
    return {
        "path": str(path),
        "agent": config.agent,
        "step": step,
        "num_candidates": choice.num_candidates,
        "selection": choice.selection,
    }


def _training_key(found: _Found) -> str:
    """Return the same text for candidates that learned from the same episodes."""
    config = found.config
    parts = config.data.datasets, config.init.run, config.validation.held_out, config.run.seed
    return f"{parts} {found.data}"


def _learned_steps(
    config: TrainConfig, data: str | None, later: frozenset[str] = frozenset()
) -> list[NDArray[np.int64]] | str:
    """Return the steps of each episode that a configuration learns from, or why nobody knows them.

    With those of the run that it began from; ``later`` are the runs that lead to it, and ``data``
    is what tells its data from others.
    """
    sources, run = config.data.datasets, config.init.run
    if not sources:
        return "it names no dataset"
    try:
        recorded = load_datasets(sources, tuple(config.data.weights))
        seed = RunSeeds.derive(config.run.seed).held_out
        learned, _ = split_episodes(recorded, config.validation.held_out, seed)
        if data and data not in (_extent(learned), _fingerprint(recorded, config)):
            return f"{recorded.source} has changed since"
        steps = [_steps(episode) for episode in learned.episodes]
        if not run or run in later:
            return steps
        begun_from = dataset_of(find_checkpoint(Path(run)))
        earlier = _learned_steps(config_of(Path(run)), begun_from, later | {run})
    except DqlError:
        return f"{listed([each for each in (*sources, run) if each])} cannot be read"
    return earlier if isinstance(earlier, str) else steps + earlier


def _fingerprint(recorded: LoadedDataset, config: TrainConfig) -> str:
    """Return what ``run.json`` says of a run's data."""
    bounded, _ = check_dataset(recorded, config)
    return fingerprint(bounded)


def _extent(learned: LoadedDataset) -> str:
    """Return what a bundle says of its data: the smallest and the largest observations."""
    episodes = [episode.observations for episode in learned.episodes]
    low = np.min([each.min(axis=0) for each in episodes], axis=0)
    return json.dumps(
        [low.tolist(), np.max([each.max(axis=0) for each in episodes], axis=0).tolist()]
    )


def _extent_of(statistics: Normalizer) -> str | None:
    low, high = statistics.observation_min, statistics.observation_max
    return None if low is None or high is None else json.dumps([low.tolist(), high.tolist()])


def _steps(episode: Episode) -> NDArray[np.int64]:
    """Hash the steps of an episode, from an observation to the next, each once; ascending.

    Actions may have been clipped, rewards changed, steps cut off.
    """
    pairs = np.hstack([episode.observations[:-1], episode.observations[1:]])
    rows = np.ascontiguousarray(pairs).view(np.dtype((np.void, pairs[0].nbytes)))
    return np.unique(np.fromiter(map(hash, rows.ravel().tolist()), np.int64, len(rows)))


def _count_learned(asked: list[NDArray[np.int64]], learned: list[NDArray[np.int64]]) -> int:
    """Return of how many episodes more than half of the steps are those of one that was learned.

    Of one, since tasks of few states have the same steps in all episodes.
    """
    steps = np.concatenate(learned)
    order = np.argsort(steps, kind="stable")
    steps, places = (
        steps[order],
        np.repeat(np.arange(len(learned)), list(map(len, learned)))[order],
    )
    count = 0
    for each in asked:
        begin, end = (np.searchsorted(steps, each, side) for side in ("left", "right"))
        shared = [places[one:other] for one, other in zip(begin, end, strict=True) if one < other]
        count += bool(shared) and int(np.bincount(np.concatenate(shared)).max()) * 2 > len(each)
    return count
