"""Going on with a run exactly as if it had never stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dql_core.atomic import remove_partial
from dql_core.config import TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.errors import CheckpointError, ConfigError
from dql_core.training.checkpoint import Checkpoint, load_checkpoint
from dql_core.training.dataset_facts import fingerprint
from dql_core.training.locate import CHECKPOINTS_FOLDER, VALIDATION_FILE, checkpoint_steps
from dql_core.training.preparation import new_run, set_threads
from dql_core.training.records import drop_after
from dql_core.training.run_folder import note_facts, package_versions, read_facts, saved_config
from dql_core.training.seeding import resolve_device

_logger = logging.getLogger(__name__)


def require_same_config(out: Path, config: TrainConfig) -> None:
    """Refuse to go on with a run in another way than it began.

    Raises:
        CheckpointError: If ``out`` is no run.
        ConfigError: Naming the first key that differs.
    """
    require_equal(out, saved_config(out), config)


def require_equal(where: Path, began: TrainConfig, wanted: TrainConfig) -> None:
    """Refuse a configuration that differs from the one that a run began with.

    Raises:
        ConfigError: Naming the first key that differs.
    """
    if difference := _first_difference(began.model_dump(), wanted.model_dump()):
        key, before, now = difference
        raise ConfigError(
            f"{where}: began with {key}={before} and cannot go on with {key}={now}: a run goes on "
            f"as it began; train a new one in another --out folder"
        )


def load_run(out: Path, config: TrainConfig, dataset: LoadedDataset) -> Checkpoint:
    """Return the run at its last checkpoint, or at its beginning if it did not reach one.

    Args:
        out: The run's folder.
        config: Its configuration.
        dataset: What it learns from.

    Raises:
        CheckpointError: If the run is damaged.
    """
    if not checkpoint_steps(out):
        return new_run(config, dataset)
    set_threads(config)
    return load_checkpoint(out, resolve_device(config.run.device))


def require_same_data(out: Path, dataset: LoadedDataset) -> None:
    """Refuse data that changed since the run began; tell if the versions of packages did.

    Raises:
        CheckpointError: If it did.
    """
    facts = read_facts(out)
    if facts["dataset"]["sha256"] != fingerprint(dataset):
        raise CheckpointError(
            f"{out}: began with other data than {dataset.source} holds now "
            f"({facts['dataset']['transitions']} transitions, now {dataset.num_transitions}); "
            f"train a new run, or restore the data"
        )
    changed = [
        f"{name} {version} (was {facts['versions'].get(name)})"
        for name, version in package_versions().items()
        if facts["versions"].get(name) != version
    ]
    if changed:
        _logger.warning("goes on with %s: numbers may differ in the last bit", ", ".join(changed))


def forget_after(out: Path, step: int) -> None:
    """Remove what the files of a run tell of later steps, and what a kill left unfinished."""
    for folder in (out, out / CHECKPOINTS_FOLDER):
        remove_partial(folder)
    drop_after(out / VALIDATION_FILE, step)
    alarms = [alarm for alarm in read_facts(out)["q_alarms"] if alarm["step"] <= step]
    note_facts(out, q_alarms=alarms, failure=None)


def _first_difference(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> tuple[str, Any, Any] | None:
    """Return key and both values of the first difference of two nested documents."""
    for key, value in before.items():
        if isinstance(value, dict):
            if found := _first_difference(value, now[key], f"{prefix}{key}."):
                return found
        elif value != now[key]:
            return prefix + key, value, now[key]
    return None
