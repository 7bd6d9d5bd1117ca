"""Going on with a run exactly as if it had never stopped."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from dql_core.config import TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.errors import CheckpointError, DamagedCheckpointError
from dql_core.leftovers import remove_partial
from dql_core.training.checkpoint import Checkpoint, load_exactly
from dql_core.training.dataset_facts import fingerprint
from dql_core.training.locate import (
    CHECKPOINTS_FOLDER,
    VALIDATION_FILE,
    checkpoint_folder,
    checkpoint_steps,
)
from dql_core.training.preparation import new_run, set_threads
from dql_core.training.records import drop_after, read_facts
from dql_core.training.run_folder import note_facts, package_versions
from dql_core.training.saved_config import require_equal, saved_config
from dql_core.training.seeding import resolve_device

_logger = logging.getLogger(__name__)


def require_same_config(out: Path, config: TrainConfig) -> None:
    """Refuse to go on with a run in another way than it began.

    Raises:
        CheckpointError: If ``out`` is no run.
        ConfigError: Naming the first key that differs.
    """
    require_equal(out, saved_config(out), config)


def load_run(out: Path, config: TrainConfig, dataset: LoadedDataset) -> Checkpoint:
    """Return the run at its last checkpoint, or at its beginning if it did not reach one.

    A damaged checkpoint is told of, and the run goes on from the one before.

    Args:
        out: The run's folder.
        config: Its configuration.
        dataset: What it learns from.

    Raises:
        CheckpointError: If no checkpoint is whole, or one is of an unknown format.
    """
    steps = checkpoint_steps(out)
    if not steps:
        return new_run(config, dataset)
    set_threads(config)
    damage: DamagedCheckpointError | None = None
    for step in reversed(steps):
        try:
            run = load_exactly(checkpoint_folder(out, step), resolve_device(config.run.device))
        except DamagedCheckpointError as cause:
            damage = damage or cause
            continue
        if damage is not None:
            _logger.warning(
                "%s; goes on from step %d, so that %d updates are made again",
                damage,
                step,
                steps[-1] - step,
            )
        return run
    raise CheckpointError(f"{damage}; nor is another one of {out} whole: train a new run")


def require_same_data(out: Path, dataset: LoadedDataset) -> None:
    """Refuse data that changed since the run began; tell if the versions of packages did.

    Raises:
        CheckpointError: If it did.
    """
    facts = read_facts(out)
    if facts["dataset"].get("sha256") != fingerprint(dataset):
        raise CheckpointError(
            f"{out}: began with other data than {dataset.source} holds now "
            f"({facts['dataset'].get('transitions')} transitions, now {dataset.num_transitions}); "
            f"train a new run, or restore the data"
        )
    changed = [
        f"{name} {version} (was {facts['versions'].get(name)!s:.40})"
        for name, version in package_versions().items()
        if facts["versions"].get(name) != version
    ]
    if changed:
        _logger.warning("goes on with %s: numbers may differ in the last bit", ", ".join(changed))


def forget_after(out: Path, step: int) -> None:
    """Remove what the files of a run tell of later steps, and what a kill left unfinished.

    Later checkpoints, which are damaged, are put aside.
    """
    for folder in (out, out / CHECKPOINTS_FOLDER):
        remove_partial(folder)
    for later in checkpoint_steps(out):
        if later > step:
            folder = checkpoint_folder(out, later)
            aside = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
    drop_after(out / VALIDATION_FILE, step)
    alarms = [alarm for alarm in read_facts(out)["q_alarms"] if alarm["step"] <= step]
    note_facts(out, q_alarms=alarms, failure=None)
