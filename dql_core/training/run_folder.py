"""The folder of a training run: what was trained, on what, with which versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from dql_core import __version__
from dql_core.atomic import write_text
from dql_core.config import TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.data.findings import Finding
from dql_core.errors import ConfigError

CONFIG_FILE = "config.yaml"
SPEC_FILE = "spec.json"
RUN_FILE = "run.json"
PACKAGES = ("torch", "numpy", "minari", "safetensors")


def require_free(folder: Path) -> None:
    """Refuse a folder that already holds something.

    Raises:
        ConfigError: If it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: already exists and is not empty; name another --out folder")


def create_run_folder(
    folder: Path,
    config: TrainConfig,
    dataset: LoadedDataset,
    findings: Sequence[Finding] = (),
) -> None:
    """Make ``folder`` and write ``config.yaml``, ``spec.json`` and ``run.json`` into it.

    Raises:
        ConfigError: If the folder already holds something.
    """
    require_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    returns = [float(episode.rewards.sum()) for episode in dataset.episodes]
    document = {
        "config_hash": config.hash(),
        "dataset": {
            "source": dataset.source,
            "episodes": len(returns),
            "transitions": dataset.num_transitions,
            "mean_return": float(np.mean(returns)),
            "std_return": float(np.std(returns)),
            "findings": [finding.text for finding in findings],
        },
        "versions": {name: metadata.version(name) for name in PACKAGES}
        | {"dql": __version__, "python": platform.python_version()},
    }
    write_text(folder / CONFIG_FILE, config.to_yaml())
    write_text(folder / SPEC_FILE, json.dumps(dataset.spec.to_json(), indent=2) + "\n")
    write_text(folder / RUN_FILE, json.dumps(document, indent=2) + "\n")
