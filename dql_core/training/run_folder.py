"""The folder of a training run: it is made here, and a run resumes as if it had never stopped."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from dql_core import __version__
from dql_core.algo.execution import resolve_device
from dql_core.config import TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.documents import file_within
from dql_core.errors import CheckpointError, ConfigError, DamagedCheckpointError
from dql_core.files import atomic_directory, require_free
from dql_core.leftovers import remove_partial
from dql_core.training.checkpoint import Checkpoint, load_exactly, save_checkpoint
from dql_core.training.preparation import TrainingData, new_run, set_threads
from dql_core.training.run_files import (
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    VALIDATION_FILE,
    checkpoint_folder,
    checkpoint_steps,
    config_hashes,
    drop_after,
    forget_alarms_after,
    read_run_info,
    write_run_info,
)

SPEC_FILE = "spec.json"
PACKAGES = ("torch", "numpy", "minari", "safetensors")
_logger = logging.getLogger(__name__)


def require_new(folder: Path) -> None:
    """Refuse a folder that already holds something.

    Raises:
        ConfigError: If it does.
    """
    require_free(folder, ConfigError, ", or resume this run with --resume")


def create_run_folder(
    folder: Path,
    config: TrainConfig,
    data: TrainingData,
    files: Mapping[str, str],
    begun: tuple[Checkpoint, dict[str, Any]] | None = None,
) -> None:
    """Make ``folder`` and write ``config.yaml``, ``spec.json`` and ``run.json`` into it.

    Args:
        folder: The run's folder.
        config: What is trained.
        data: What it is trained on.
        files: Further texts by the name of their file.
        begun: A run that does not begin at random, and where it came from: it is saved as the
            first checkpoint, so that the run resumes without what it came from.

    Raises:
        ConfigError: If the folder already holds something.
    """
    require_new(folder)
    info: dict[str, Any] = {
        "dataset": _dataset_info(data.recorded)
        | {
            "held_out_episodes": len(data.held_out.episodes) if data.held_out else 0,
            "findings": [finding.text for finding in data.findings],
        },
        "versions": package_versions(),
        "q_alarms": [],
        "failure": None,
    }
    with atomic_directory(folder, error=ConfigError) as new:
        (new / SPEC_FILE).write_text(json.dumps(data.recorded.spec.to_json(), indent=2) + "\n")
        (new / CONFIG_FILE).write_text(config.to_yaml())
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
        if begun:
            info["initialised_from"] = begun[1]
            save_checkpoint(new, begun[0])
        write_run_info(new, config_hashes(new / CONFIG_FILE, config) | info)


def package_versions() -> dict[str, str]:
    """Return the versions that may decide the last bit of a result."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return versions | {"dql": __version__, "python": platform.python_version()}


class InUseError(ConfigError):
    """Another process works in the folder."""


@contextmanager
def exclusive_lock(
    folder: Path, name: str = CONFIG_FILE, work: str = "training this run"
) -> Iterator[None]:
    """Let no other process train in ``folder`` as long as this one does.

    Args:
        folder: Of a run, or of several.
        name: The file in it that is locked.
        work: What the other process is doing, for the message.

    Raises:
        InUseError: If one does already.
    """
    with file_within(folder, name, CheckpointError).open() as file:
        try:
            # The lock ends with the process, however that ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise InUseError(
                f"{folder}: another process is {work}; wait until it ends, or stop it"
            ) from cause
        except OSError:  # a file system without locks
            pass
        yield


def load_run(out: Path, config: TrainConfig, dataset: LoadedDataset) -> Checkpoint:
    """Return the run at its last checkpoint, or at its beginning if it did not reach one.

    A damaged checkpoint is reported, and the run resumes from the one before.

    Args:
        out: The run's folder.
        config: Its configuration.
        dataset: What it learns from.

    Raises:
        CheckpointError: If no checkpoint is whole, or one is of an unknown format; if there is
            none of a run that did not begin at random.
    """
    steps = checkpoint_steps(out)
    if not steps:
        if config.init.run:
            raise CheckpointError(
                f"{out}: the checkpoint with the weights that it began with is missing: restore "
                f"{checkpoint_folder(out, 0)}, or train a new run"
            )
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
            again = steps[-1] - step
            _logger.warning(
                "%s; resumes from step %d: %d updates are repeated", damage, step, again
            )
        return run
    raise CheckpointError(f"{damage}; and no other checkpoint in {out} is intact: train a new run")


def require_same_data(out: Path, dataset: LoadedDataset) -> None:
    """Refuse data that changed since the run began; warn if the versions of packages did.

    Raises:
        CheckpointError: If it did.
    """
    info = read_run_info(out)
    if info["dataset"].get("sha256") != fingerprint(dataset):
        raise CheckpointError(
            f"{out}: the dataset {dataset.source} has changed since this run started "
            f"({info['dataset'].get('transitions')} transitions, now {dataset.num_transitions}); "
            f"train a new run, or restore the data"
        )
    changed = [
        f"{name} {version} (was {info['versions'].get(name)!s:.40})"
        for name, version in package_versions().items()
        if info["versions"].get(name) != version
    ]
    if changed:
        _logger.warning("resumes with %s: numbers may differ in the last bit", ", ".join(changed))


def forget_after(out: Path, step: int) -> None:
    """Remove what the files of a run have of later steps, and what a kill left unfinished.

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
    forget_alarms_after(out, step)


def _dataset_info(dataset: LoadedDataset) -> dict[str, Any]:
    """Return size, returns and fingerprint of a dataset as JSON."""
    returns = [float(episode.rewards.sum()) for episode in dataset.episodes]
    return {
        "source": dataset.source,
        "episodes": len(returns),
        "transitions": dataset.num_transitions,
        "mean_return": float(np.mean(returns)),
        "std_return": float(np.std(returns)),
        "sha256": fingerprint(dataset),
    }


def fingerprint(dataset: LoadedDataset) -> str:
    """SHA-256 of all that is learned from, in the order of the episodes."""
    digest = hashlib.sha256()
    for episode in dataset.episodes:
        for array in (episode.observations, episode.actions, episode.rewards):
            digest.update(np.ascontiguousarray(array).data)
        digest.update(f"{len(episode)} {episode.terminated}".encode())
        for name, values in sorted(episode.infos.items()):  # those that weigh its steps
            digest.update(name.encode() + np.ascontiguousarray(values).data)
    return digest.hexdigest()
