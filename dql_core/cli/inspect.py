"""What a dataset, run folder, checkpoint or bundle holds, for `dql inspect`."""

# ruff: noqa: PLC0415 - only a checkpoint needs torch, only a dataset Minari; both take seconds.

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group

from dql_core.cli.console import Columns, episodes_facts, facts_table, fields_table, spec_facts
from dql_core.config import DETERMINISTIC_AGENTS, DiffusionConfig, PolicyKind
from dql_core.documents import CHECKPOINT_FILE
from dql_core.normalize import Normalizer
from dql_core.runtime.manifest import MANIFEST_FILE, Manifest, SamplerSettings, read_bundle
from dql_core.training.run_files import (
    CHECKPOINTS_FOLDER,
    METRICS_FILE,
    checkpoint_folder,
    checkpoint_steps,
    read_records,
)

if TYPE_CHECKING:
    from dql_core.training.checkpoint import Checkpoint


def describe(path: Path) -> Group | None:
    """Return tables on a dataset, run, checkpoint or bundle; ``None`` if it is none of these.

    Raises:
        DqlError: If it is one of these, but damaged.
    """
    marks: dict[str, Callable[[Path], Group]] = {
        MANIFEST_FILE: _bundle,
        CHECKPOINT_FILE: _checkpoint,
        CHECKPOINTS_FOLDER: _run,
        "data/metadata.json": _dataset,
        "metadata.json": _dataset,
    }
    for mark, describe_kind in marks.items():
        if os.path.lexists(path / mark):
            return describe_kind(path)
    return None


def _dataset(path: Path) -> Group:
    from dql_core.data.dataset import load_dataset
    from dql_core.data.metadata import LINEAGE_KEY, earlier_entries, has_rewards

    dataset = load_dataset(path)
    episodes = dataset.episodes
    returns = np.array([episode.rewards.sum() for episode in episodes])
    facts = {
        **spec_facts(dataset.spec),
        **episodes_facts(episodes),
        "episode length": _spread(np.array([len(episode) for episode in episodes])),
        "return": _spread(returns) if has_rewards(dataset.metadata) else "",
        "description": dataset.metadata.get("description", ""),
        "lineage": tuple(
            _made(entry) for entry in earlier_entries(dataset.metadata, LINEAGE_KEY, str(path))
        ),
    }
    observations = np.concatenate([episode.observations for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    return Group(
        facts_table(f"dataset {path}", facts),
        fields_table(dataset.spec, _columns(observations), _columns(actions)),
    )


def _made(entry: Any) -> str:
    """Say in a line what one step of curating did; what somebody else left there, as it is."""
    try:
        inputs = " and ".join(
            f"{each['dataset']} ({each['episodes']})" for each in entry["inputs"]
        )
        options = ", ".join(f"{key}={value}" for key, value in entry["arguments"].items())
        return f"{entry['operation']} of {inputs}" + (f", {options}" if options else "")
    except (TypeError, KeyError, AttributeError):
        return f"{entry!r:.80}"


def _run(path: Path) -> Group:
    steps = [checkpoint_folder(path, step).name for step in checkpoint_steps(path)]
    *_, last = [{}, *read_records(path / METRICS_FILE)]
    numbers = {name: value for name, value in last.items() if isinstance(value, int | float)}
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    return _trained("run", path, {"checkpoints": ", ".join(steps), "last metrics": metrics})


def _checkpoint(path: Path) -> Group:
    return _trained("checkpoint", path, {})


def _trained(kind: str, path: Path, more: dict[str, object]) -> Group:
    from dql_core.training.checkpoint import load_checkpoint

    checkpoint: Checkpoint = load_checkpoint(path)
    config = checkpoint.config
    facts = {
        **spec_facts(checkpoint.spec),
        "agent": config.agent,
        "updates": f"{checkpoint.step:,} of {config.run.steps:,}",
        "trained on": " and ".join(config.data.datasets),
        "begun from": config.init.run,
        "sampling": _sampling(config.agent, config.policy.kind, config.diffusion),
        "chunks": _chunks(config.policy.horizon),
        "configuration": config.hash()[:12],
        **more,
    }
    statistics = _statistics_columns(checkpoint.data_statistics)
    return Group(facts_table(f"{kind} {path}", facts), fields_table(checkpoint.spec, statistics))


def _bundle(path: Path) -> Group:
    manifest, contents = read_bundle(path)
    parity, spec = manifest.parity, manifest.policy_spec
    sizes = ", ".join(f"{name} {len(content) / 1e6:.1f} MB" for name, content in contents.items())
    facts = {
        **spec_facts(spec),
        "agent": f"{manifest.agent} after {manifest.step:,} updates",
        "sampling": _sampling(manifest.agent, manifest.sampler.kind, manifest.sampler),
        "chunks": _chunks(manifest.horizon, manifest.executed),
        "selection": _selection(manifest),
        "parity": f"within {parity.action_error:.1e} of the action range on "
        f"{parity.observations} {parity.source}",
        "configuration": manifest.config_hash[:12],
        "bundle": manifest.sha256[:12],
        "files": f"{sizes}; all hashes right",
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    statistics = _statistics_columns(manifest.data_statistics)
    return Group(facts_table(f"policy bundle {path}", facts), fields_table(spec, statistics))


def _sampling(agent: str, kind: PolicyKind, settings: DiffusionConfig | SamplerSettings) -> str:
    """Say how actions are sampled; empty where they are not."""
    if agent in DETERMINISTIC_AGENTS:
        return ""
    if kind == "mean_flow":
        return "one step of a mean flow"
    taken = f"{settings.num_sampling_steps} of " if settings.num_sampling_steps else ""
    return (
        f"{taken}{settings.num_diffusion_steps} steps, {settings.schedule}, "
        f"predicts {settings.prediction}, {settings.sampler}"
    )


def _chunks(horizon: int, executed: int = 0) -> str:
    played = f", the next after {executed}" if executed else ""
    return f"of {horizon} actions{played}" if horizon > 1 else ""


def _selection(manifest: Manifest) -> str:
    chosen = f"{manifest.selection} of {manifest.num_candidates}"
    if manifest.selection not in ("softmax", "mode"):
        return chosen
    scale = "" if manifest.temperature_scale == "relative" else " of raw values"
    return f"{chosen}, temperature {manifest.temperature:g}{scale}"


def _spread(values: NDArray[np.number[Any]]) -> str:
    return f"{values.mean():.4g} on average, {values.min():.4g} to {values.max():.4g}"


def _columns(rows: NDArray[np.float32]) -> Columns:
    return {"min": rows.min(axis=0), "mean": rows.mean(axis=0), "max": rows.max(axis=0)}


def _statistics_columns(statistics: Normalizer) -> Columns:
    columns = {"mean": statistics.observation_mean, "std": statistics.observation_std}
    if statistics.observation_min is None or statistics.observation_max is None:
        return columns
    return {"min": statistics.observation_min, **columns, "max": statistics.observation_max}
