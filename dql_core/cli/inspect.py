"""What a dataset, run folder, checkpoint or bundle holds, for `dql inspect`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group

from dql_core.cli.console import Columns, facts_table, fields_table, spec_facts
from dql_core.config import DiffusionConfig
from dql_core.data.dataset import DATA_FOLDER, load_dataset
from dql_core.normalize import Normalizer
from dql_core.runtime.manifest import MANIFEST_FILE, Manifest, SamplerSettings, read_bundle
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.run_files import (
    CHECKPOINTS_FOLDER,
    DOCUMENT_FILE,
    METRICS_FILE,
    checkpoint_folder,
    checkpoint_steps,
    read_records,
)


def describe(path: Path) -> Group | None:
    """Describe a dataset, run folder, checkpoint or bundle.

    Returns:
        Tables to print, or ``None`` if ``path`` is none of these.

    Raises:
        DqlError: If it is one of these, but damaged.
    """
    marks: dict[Path, Callable[[Path], Group]] = {
        path / MANIFEST_FILE: _bundle,
        path / DOCUMENT_FILE: _checkpoint,
        path / CHECKPOINTS_FOLDER: _run,
        path / DATA_FOLDER / "metadata.json": _dataset,
        path / "metadata.json": _dataset,
    }
    for mark, describe_kind in marks.items():
        if os.path.lexists(mark):
            return describe_kind(path)
    return None


def _dataset(path: Path) -> Group:
    dataset = load_dataset(path)
    episodes = dataset.episodes
    returns = np.array([episode.rewards.sum() for episode in episodes])
    lengths = np.array([len(episode) for episode in episodes])
    terminated = sum(episode.terminated for episode in episodes)
    facts = {
        **spec_facts(dataset.spec),
        "episodes": f"{len(episodes):,} ({terminated} terminated, "
        f"{len(episodes) - terminated} truncated)",
        "transitions": f"{dataset.num_transitions:,}",
        "episode length": _spread(lengths),
        "return": _spread(returns),
        "description": dataset.metadata.get("description", ""),
    }
    observations = np.concatenate([episode.observations for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    return Group(
        facts_table(f"dataset {path}", facts),
        fields_table(dataset.spec, _columns(observations), _columns(actions)),
    )


def _run(path: Path) -> Group:
    checkpoint = load_checkpoint(path)
    steps = [checkpoint_folder(path, step).name for step in checkpoint_steps(path)]
    facts = {
        **_checkpoint_facts(checkpoint),
        "checkpoints": ", ".join(steps),
        "last metrics": _last_metrics(path / METRICS_FILE),
    }
    return _page(f"run {path}", facts, checkpoint)


def _last_metrics(path: Path) -> str:
    *_, last = [{}, *read_records(path)]
    numbers = {name: value for name, value in last.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _checkpoint(path: Path) -> Group:
    checkpoint = load_checkpoint(path)
    return _page(f"checkpoint {path}", _checkpoint_facts(checkpoint), checkpoint)


def _page(title: str, facts: dict[str, object], checkpoint: Checkpoint) -> Group:
    statistics = _statistics_columns(checkpoint.data_statistics)
    return Group(facts_table(title, facts), fields_table(checkpoint.spec, statistics))


def _checkpoint_facts(checkpoint: Checkpoint) -> dict[str, object]:
    config = checkpoint.config
    return {
        **spec_facts(checkpoint.spec),
        "agent": config.agent,
        "updates": f"{checkpoint.step:,} of {config.run.steps:,}",
        "trained on": config.data.dataset,
        "diffusion": _diffusion(config.agent, config.diffusion),
        "configuration": config.hash()[:12],
    }


def _bundle(path: Path) -> Group:
    manifest, contents = read_bundle(path)
    sizes = ", ".join(f"{name} {len(content) / 1e6:.1f} MB" for name, content in contents.items())
    facts = {
        **spec_facts(manifest.policy_spec),
        "agent": f"{manifest.agent} after {manifest.step:,} updates",
        "diffusion": _diffusion(manifest.agent, manifest.sampler),
        "selection": _selection(manifest),
        "parity": f"within {manifest.parity.action_error:.1e} of the action range on "
        f"{manifest.parity.observations} {manifest.parity.source}",
        "configuration": manifest.config_hash[:12],
        "bundle": manifest.sha256[:12],
        "files": f"{sizes}; all hashes right",
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    statistics = _statistics_columns(manifest.data_statistics)
    return Group(
        facts_table(f"policy bundle {path}", facts),
        fields_table(manifest.policy_spec, statistics),
    )


def _diffusion(agent: str, settings: DiffusionConfig | SamplerSettings) -> str:
    """Tell how actions are sampled; empty where they are not."""
    if agent == "td3_bc":
        return ""
    taken = f"{settings.num_sampling_steps} of " if settings.num_sampling_steps else ""
    return (
        f"{taken}{settings.num_diffusion_steps} steps, {settings.schedule}, "
        f"predicts {settings.prediction}, {settings.sampler}"
    )


def _selection(manifest: Manifest) -> str:
    scale = "" if manifest.temperature_scale == "relative" else " of raw values"
    temperature = f", temperature {manifest.temperature:g}{scale}"
    return (
        f"{manifest.selection} of {manifest.num_candidates}"
        f"{temperature if manifest.selection == 'softmax' else ''}"
    )


def _spread(values: NDArray[np.number[Any]]) -> str:
    return f"{values.mean():.4g} on average, {values.min():.4g} to {values.max():.4g}"


def _columns(rows: NDArray[np.float32]) -> Columns:
    return {"min": rows.min(axis=0), "mean": rows.mean(axis=0), "max": rows.max(axis=0)}


def _statistics_columns(statistics: Normalizer) -> Columns:
    return {"mean": statistics.observation_mean, "std": statistics.observation_std}
