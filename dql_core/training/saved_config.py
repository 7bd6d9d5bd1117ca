"""The configuration that a run was started with, and whether it still says so."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dql_core.config import TrainConfig
from dql_core.documents import file_within
from dql_core.errors import CheckpointError, ConfigError, DqlError
from dql_core.presets import as_saved
from dql_core.strict_yaml import parse
from dql_core.training.checkpoint_files import read_document
from dql_core.training.run_files import (
    CONFIG_FILE,
    checkpoint_folder,
    checkpoint_steps,
    config_hashes,
    read_config,
    read_run_info,
)

_logger = logging.getLogger(__name__)


def saved_config(run: Path) -> TrainConfig:
    """Return the configuration that a run was started with.

    Raises:
        CheckpointError: If ``run`` is no run, or damaged.
        ConfigError: If its configuration is damaged, or was edited since.
    """
    if not os.path.lexists(run / CONFIG_FILE):
        raise CheckpointError(f"{run}: not a run of 'dql train': it has no {CONFIG_FILE}")
    path = file_within(run, CONFIG_FILE, CheckpointError)
    config = read_config(path)
    if _is_edited(path, config):
        raise ConfigError(
            f"{path}: was edited since the run began{_edit(run, config)}: change it back, or "
            f"train a new run: dql train {path} --out NEW"
        )
    return config


def warn_if_edited(run: Path) -> None:
    """Warn that a run's configuration was edited, where its checkpoints' own one counts."""
    path = run / CONFIG_FILE
    try:
        edited = path.is_file() and _is_edited(path, read_config(path))
    except DqlError:
        edited = True
    if edited:
        _logger.warning(
            "%s: was edited after the run began; the edit is ignored, the checkpoint's own "
            "configuration is used",
            path,
        )


def require_equal(where: Path, began: TrainConfig, wanted: TrainConfig) -> None:
    """Refuse a configuration that differs from the one that a run began with.

    Raises:
        ConfigError: Naming the first key that differs.
    """
    if difference := _first_difference(began, wanted):
        key, before, now = difference
        raise ConfigError(
            f"{where}: began with {key}={before} and cannot continue with {key}={now}: a "
            f"resumed run must keep its configuration; train a new one in another --out folder"
        )


def _is_edited(path: Path, config: TrainConfig) -> bool:
    """Whether a configuration is not what ``run.json`` knows, in what it means and to the bit."""
    info = read_run_info(path.parent)
    hashes = config_hashes(path, config)
    return all(info.get(key) != value for key, value in hashes.items())


def _edit(run: Path, config: TrainConfig) -> str:
    """Say by the last checkpoint what was edited, if there is one."""
    for step in reversed(checkpoint_steps(run)):
        folder = checkpoint_folder(run, step)
        try:
            document = as_saved(read_document(folder).config)
            began = parse(document, TrainConfig, "", CheckpointError)
        except CheckpointError:
            continue
        if difference := _first_difference(began, config):
            key, before, now = difference
            return f" ({key} is {now} and was {before})"
    return ""


def _first_difference(before: TrainConfig, now: TrainConfig) -> tuple[str, Any, Any] | None:
    """Return key and both values of the first difference."""
    old, new = (dict(_flat(each.model_dump())) for each in (before, now))
    keys = dict.fromkeys([*old, *new])  # of a mapping such as data.weights, each has its own
    values = ((key, old.get(key), new.get(key)) for key in keys)
    return next((each for each in values if each[1] != each[2]), None)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
