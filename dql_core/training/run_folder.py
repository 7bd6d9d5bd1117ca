"""The folder of a training run: what was trained, on what, with which versions."""

from __future__ import annotations

import fcntl
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from dql_core import __version__
from dql_core.atomic import is_free, whole_directory
from dql_core.config import TrainConfig
from dql_core.documents import file_within
from dql_core.errors import CheckpointError, ConfigError
from dql_core.training.dataset_facts import dataset_facts
from dql_core.training.preparation import TrainingData
from dql_core.training.records import read_facts, write_facts
from dql_core.training.saved_config import CONFIG_FILE, FILE_HASH, file_hash

SPEC_FILE = "spec.json"
PACKAGES = ("torch", "numpy", "minari", "safetensors")


def require_free(folder: Path) -> None:
    """Refuse a folder that already holds something.

    Raises:
        ConfigError: If it does.
    """
    if not is_free(folder):
        raise ConfigError(
            f"{folder}: already exists and is not empty; name another --out folder, or go on with "
            f"this run by --resume"
        )


def create_run_folder(folder: Path, config: TrainConfig, data: TrainingData) -> None:
    """Make ``folder`` and write ``config.yaml``, ``spec.json`` and ``run.json`` into it.

    Raises:
        ConfigError: If the folder already holds something.
    """
    require_free(folder)
    facts: dict[str, Any] = {
        "config_hash": config.hash(),
        "dataset": dataset_facts(data.recorded)
        | {
            "held_out_episodes": len(data.held_out.episodes) if data.held_out else 0,
            "findings": [finding.text for finding in data.findings],
        },
        "versions": package_versions(),
        "q_alarms": [],
        "failure": None,
    }
    with whole_directory(folder) as new:
        (new / SPEC_FILE).write_text(json.dumps(data.recorded.spec.to_json(), indent=2) + "\n")
        (new / CONFIG_FILE).write_text(config.to_yaml())
        write_facts(new, facts | {FILE_HASH: file_hash(new / CONFIG_FILE)})


def package_versions() -> dict[str, str]:
    """Return the versions that may decide the last bit of a result."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return versions | {"dql": __version__, "python": platform.python_version()}


def note_facts(folder: Path, **facts: Any) -> None:
    """Add to ``run.json``, or replace what it says of the same names."""
    write_facts(folder, read_facts(folder) | facts)


def note_alarm(folder: Path, step: int, q_magnitude: float, limit: float) -> None:
    """Add to ``run.json`` that values left their limit."""
    alarm = {"step": step, "q_magnitude": q_magnitude, "limit": limit}
    note_facts(folder, q_alarms=[*read_facts(folder)["q_alarms"], alarm])


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Let no other process train in ``folder`` as long as this one does.

    Raises:
        ConfigError: If one does already.
    """
    with file_within(folder, CONFIG_FILE, CheckpointError).open() as file:
        try:
            # The lock ends with the process, however that ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise ConfigError(f"{folder}: another process is training this run") from cause
        except OSError:  # a file system without locks
            pass
        yield
