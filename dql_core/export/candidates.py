"""The policies of runs, checkpoints and bundles, to be judged by recorded episodes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from dql_core.algo.noise import RunSeeds
from dql_core.algo.policy_graph import TorchPolicy
from dql_core.algo.torch_backend import rebuild
from dql_core.config import TrainConfig
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
from dql_core.runtime.manifest import MANIFEST_FILE, read_bundle
from dql_core.runtime.policy import Choice
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.initial import config_of
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


class Policies:
    """What a user points at, as candidates: runs with some of their checkpoints, and bundles.

    Args:
        paths: Runs, checkpoints and bundles, at least one.
        checkpoints: Which ones of each run: ``all``, or names and steps with commas between them.

    Attributes:
        discounts: The discounts that they were trained with.

    Raises:
        BundleError: If a bundle is damaged.
        CheckpointError: If there is no such run or checkpoint, or it is damaged.
        ConfigError: If a checkpoint's name is none.
    """

    def __init__(self, paths: Sequence[Path], checkpoints: str = ALL) -> None:
        self.discounts: set[float] = set()
        self._trained_on: dict[str, frozenset[str] | None] = {}
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
        asked = [_key(episode) for episode in dataset.episodes]
        return [
            Candidate(
                **{
                    **vars(candidate),
                    "remarks": (*candidate.remarks, *self._overlap(config, asked)),
                }
            )
            for candidate, config in self._found
        ]

    def _checkpoint(self, folder: Path) -> tuple[Candidate, TrainConfig]:
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
        return candidate, run.config

    def _bundle(self, folder: Path) -> tuple[Candidate, TrainConfig]:
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
        return candidate, config

    def _overlap(self, config: TrainConfig, asked: list[str]) -> list[str]:
        """Say how many of the episodes were trained on, if any, or that nobody knows."""
        data = config.data.datasets, config.init.run
        key = f"{data} {config.validation.held_out} {config.run.seed}"
        if key not in self._trained_on:
            self._trained_on[key] = _learned_episodes(config)
        learned = self._trained_on[key]
        if learned is None:
            names = listed([each for each in (*config.data.datasets, config.init.run) if each])
            why = f"{names} cannot be read" if names else "it names no dataset"
            return [f"whether it was trained on these episodes is unknown: {why}"]
        if seen := sum(each in learned for each in asked):
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


def _learned_episodes(
    config: TrainConfig, later: frozenset[str] = frozenset()
) -> frozenset[str] | None:
    """Return keys of the episodes that a configuration learns from; None if they are not there.

    With those of the run that it began from; ``later`` are the runs that lead to it.
    """
    if not config.data.datasets:
        return None
    seed = RunSeeds.derive(config.run.seed).held_out
    earlier: frozenset[str] | None = frozenset()
    try:
        recorded = load_datasets(config.data.datasets)
        learned, _ = split_episodes(recorded, config.validation.held_out, seed)
        if (run := config.init.run) and run not in later:
            earlier = _learned_episodes(config_of(Path(run)), later | {run})
    except DqlError:
        return None
    return None if earlier is None else earlier.union(map(_key, learned.episodes))


def _key(episode: Episode) -> str:
    """Hash an episode's observations: actions may have been clipped, rewards changed."""
    return hashlib.sha256(np.ascontiguousarray(episode.observations).data).hexdigest()
