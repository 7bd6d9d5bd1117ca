"""What a run begins with where it does not begin at random: the weights of another run.

Policy, its moving average, critics and their targets are those of the other run. Optimisers, their
moments and the learning rate's decay begin anew, as do the generators, by the new run's seed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dql_core.algo.agent import Agent
from dql_core.config import DETERMINISTIC_AGENTS, TrainConfig
from dql_core.documents import CHECKPOINT_FILE, RUN_FILE
from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.presets import as_saved
from dql_core.spec import PolicySpec
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.checkpoint_files import STATE_FILE, read_document
from dql_core.training.run_files import (
    find_checkpoint,
    is_known_to_diverge,
    read_run_info,
)

# Of the limit of guidance, which begins as the policy where the other run has none.
TWIN = "guidance"
# What the weights of a network are made for, and what they are no weights of otherwise.
_POLICY_KEYS = ("agent", "policy.kind", "policy.horizon", "policy.width", "policy.depth")
_DIFFUSION_KEYS = (
    "diffusion.num_diffusion_steps",
    "diffusion.schedule",
    "diffusion.prediction",
)
_CRITIC_KEYS = tuple(
    f"critic.{key}" for key in ("kind", "num_critics", "width", "depth", "layer_norm", "dueling")
)
# What the values of critics are: they learn anew what a change of these makes of them.
_VALUE_KEYS = ("data.reward_transform", "data.reward_scale", "critic.discount", "critic.expectile")
# Observations that are farther off, in standard deviations, or spread so many times as far.
REMARKABLE_SHIFT = 3.0
_logger = logging.getLogger(__name__)


def config_of(path: Path) -> TrainConfig:
    """Return the configuration of a run or checkpoint, as it was trained.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged.
        ConfigError: If its configuration is no valid one.
    """
    folder = find_checkpoint(path)
    document = as_saved(read_document(folder).config)
    return parse(document, TrainConfig, str(folder / CHECKPOINT_FILE), ConfigError)


def trained_on(run: Checkpoint) -> tuple[Checkpoint, dict[str, Any]]:
    """Give a run before its first update the weights that ``init.run`` names.

    Args:
        run: Its networks are changed.

    Returns:
        The run with the normaliser that was chosen, and for ``run.json`` where it came from.

    Raises:
        CheckpointError: If there is no such run, or it is damaged.
        ConfigError: If its weights are of other networks.
        SpecMismatchError: If its numbers mean something else.
    """
    config, path = run.config, Path(run.config.init.run)
    folder = find_checkpoint(path)
    source = load_checkpoint(path)
    source.spec.require_same_meaning(
        run.spec,
        f"init.run {folder}",
        "the dataset",
        "convert with the contract it was trained with, or train without --init-from",
    )
    _require_same_networks(source.config, config, folder)
    normalizer = run.normalizer
    if config.init.normalizer == "kept":
        _require_same_units(source, run, folder)
        normalizer = _kept(source.normalizer, run.normalizer)
    _copy_weights(source.agent, run.agent)
    _report(source, run, folder)
    document = read_document(folder)
    info = {
        "run": str(path.resolve()),
        "checkpoint": folder.name,
        "step": source.step,
        "state_sha256": document.files.get(STATE_FILE),
        "config_hash": source.config.hash(),
        "dataset_sha256": dataset_of(folder),
        "normalizer": config.init.normalizer,
    }
    return dataclasses.replace(run, normalizer=normalizer), info


def dataset_of(folder: Path) -> str | None:
    """Return the SHA-256 of what a checkpoint learned from, if its run is there to say so."""
    run = folder.absolute().parents[1]
    if not (run / RUN_FILE).is_file():
        return None
    sha256 = read_run_info(run)["dataset"].get("sha256")
    return sha256 if isinstance(sha256, str) else None


def _require_same_networks(source: TrainConfig, config: TrainConfig, folder: Path) -> None:
    """Refuse networks of another size, or that compute something else.

    Raises:
        ConfigError: Naming the first key that differs.
    """
    keys = list(_POLICY_KEYS)
    if config.policy.kind == "diffusion" and config.agent not in DETERMINISTIC_AGENTS:
        keys += _DIFFUSION_KEYS
    if config.learns_values:
        keys += _CRITIC_KEYS
    for key, there, here in _differences(source, config, keys):
        raise ConfigError(
            f"init.run {folder}: was trained with {key}={there} and this run has {here}, of which "
            f"its weights are none: set {key}={there}, or train without --init-from"
        )


def _differences(
    source: TrainConfig, config: TrainConfig, keys: list[str] | tuple[str, ...]
) -> Iterator[tuple[str, object, object]]:
    for key in keys:
        there, here = _value(source, key), _value(config, key)
        if there != here:
            yield key, there, here


def _value(config: TrainConfig, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _require_same_units(source: Checkpoint, run: Checkpoint, folder: Path) -> None:
    """Refuse to keep a normaliser where the numbers that it makes would mean something else.

    Raises:
        ConfigError: Naming key and values.
    """
    there = source.config.data.normalize_observations
    if there != run.config.data.normalize_observations:
        raise ConfigError(
            f"init.run {folder}: was trained with data.normalize_observations={there}, and its "
            f"normaliser is to be kept: set that, or init.normalizer=refitted"
        )
    for old, new in zip(source.spec.action, run.spec.action, strict=True):
        if (old.low, old.high) != (new.low, new.high):
            raise ConfigError(
                f"init.run {folder}: its actions '{old.name}' are from {old.low:g} to "
                f"{old.high:g} and those of the data from {new.low:g} to {new.high:g}: what it "
                f"learned is a share of that; convert the data with its limits, or set "
                f"init.normalizer=refitted"
            )


def _kept(source: Normalizer, fitted: Normalizer) -> Normalizer:
    """Return the normaliser of the other run, which has seen what both have."""
    low, high = source.observation_min, source.observation_max
    if low is None or high is None:
        return source
    if fitted.observation_min is None or fitted.observation_max is None:
        return source
    low, high = np.minimum(low, fitted.observation_min), np.maximum(high, fitted.observation_max)
    for array in (low, high):
        array.setflags(write=False)
    return dataclasses.replace(source, observation_min=low, observation_max=high)


@torch.no_grad()
def _copy_weights(source: Agent, agent: Agent) -> None:
    """Copy the weights of every network that both have; buffers follow from the configuration."""
    for name in agent.modules.keys() & source.modules.keys():
        _copy(source.modules[name], agent.modules[name])
    if TWIN in agent.modules and TWIN in source.modules:  # how far guidance is limited, too
        agent.modules[TWIN].load_state_dict(source.modules[TWIN].state_dict())
    elif TWIN in agent.modules:
        twin, policy = agent.modules[TWIN], agent.modules["policy"]
        _copy(policy.get_submodule("online"), twin.get_submodule("imitator"))


def _copy(source: nn.Module, target: nn.Module) -> None:
    weights = dict(source.named_parameters())
    for name, place in target.named_parameters():
        place.copy_(weights[name])


def _report(source: Checkpoint, run: Checkpoint, folder: Path) -> None:
    """Say what the run begins with, and what of it may be no good."""
    config = run.config
    networks = "policy and its average"
    networks += ", critics and their targets" if config.learns_values else ""
    units = {
        "kept": "the normaliser is kept",
        "refitted": "the normaliser is the new data's: the first updates learn it anew",
    }
    _logger.info(
        "begins with the weights of %s (%s, step %s); %s; optimisers are new",
        folder,
        networks,
        f"{source.step:,}",
        units[config.init.normalizer],
    )
    if is_known_to_diverge(folder, source.step):
        _logger.warning(
            "%s: its critics diverged; an earlier checkpoint may be better to begin with", folder
        )
    if config.learns_values:
        changed = list(_differences(source.config, config, _VALUE_KEYS))
        if changed:
            text = ", ".join(f"{key}={here} (was {there})" for key, there, here in changed)
            _logger.warning("the values of %s are learned anew: %s", folder, text)
    both = set(source.config.data.datasets) & set(config.data.datasets)
    if both and config.validation.held_out:
        _logger.warning(
            "held-out episodes of %s may be among those that %s learned from: errors on them "
            "flatter",
            " and ".join(sorted(both)),
            folder,
        )
    if config.init.normalizer == "kept" and config.data.normalize_observations:
        _warn_of_shift(source.normalizer, run.normalizer, run.spec)


def _warn_of_shift(kept: Normalizer, fitted: Normalizer, spec: PolicySpec) -> None:
    """Warn where the new observations lie far from those that a normaliser was fitted to."""
    shifts = np.abs(fitted.observation_mean - kept.observation_mean) / kept.observation_std
    spreads = fitted.observation_std / kept.observation_std
    index = int(np.argmax(np.maximum(shifts, spreads)))
    if max(shifts[index], spreads[index]) > REMARKABLE_SHIFT:
        _logger.warning(
            "the new data's '%s' is %.2g +- %.2g and the kept normaliser's %.2g +- %.2g: if that "
            "is no mistake, init.normalizer=refitted may learn faster",
            spec.observation[index].name,
            fitted.observation_mean[index],
            fitted.observation_std[index],
            kept.observation_mean[index],
            kept.observation_std[index],
        )
