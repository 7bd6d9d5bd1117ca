"""What training on a million transitions needs beside its imports: one JSON line each.

The dataset has HalfCheetah's widths (17 and 6, float32) in 1000 episodes of 1000 steps; the
networks have the paper's size. A fresh process loads it, checks it, and takes a few updates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import gymnasium as gym
import minari
import numpy as np
import torch
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from dql_core.config import RunConfig, TrainConfig
from dql_core.data.dataset import load_dataset
from dql_core.data_config import DataConfig
from dql_core.training.loop import train

OBSERVATION_SIZE, ACTION_SIZE = 17, 6
EPISODES, EPISODE_LENGTH = 1000, 1000
UPDATES = 20
STORAGES = ("hdf5", "arrow")
EXECUTIONS = ("eager", "compiled")


def main() -> None:
    """Write the dataset and measure in a fresh process, for each storage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--storage", choices=STORAGES, help="Measure this one only.")
    parser.add_argument(
        "--execution", choices=EXECUTIONS, help="Measure this one only (run.execution)."
    )
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.storage, arguments.execution)
        return
    for storage in [arguments.storage] if arguments.storage else STORAGES:
        with tempfile.TemporaryDirectory() as folder:
            write_random(Path(folder), storage)
            for execution in [arguments.execution] if arguments.execution else EXECUTIONS:
                options = ["--storage", storage, "--execution", execution, "--measure", folder]
                subprocess.run([sys.executable, __file__, *options], check=True)


def write_random(folder: Path, storage: str) -> None:
    """Write a dataset of random numbers."""
    (folder / "data").mkdir()
    minari_storage = MinariStorage.new(
        folder / "data",
        observation_space=gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,)),
        action_space=gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,)),
        data_format=storage,
    )
    version = minari.__version__
    minari_storage.update_metadata({"dataset_id": "benchmark-v0", "minari_version": version})
    rng = np.random.default_rng(0)
    never = np.zeros(EPISODE_LENGTH, dtype=bool)
    minari_storage.update_episodes(
        EpisodeBuffer(
            observations=rng.standard_normal((EPISODE_LENGTH + 1, OBSERVATION_SIZE), np.float32),
            actions=rng.uniform(-1, 1, (EPISODE_LENGTH, ACTION_SIZE)).astype(np.float32),
            rewards=rng.standard_normal(EPISODE_LENGTH),
            terminations=never,
            truncations=never,
        )
        for _ in range(EPISODES)
    )


def measure(folder: Path, storage: str, execution: Literal["eager", "compiled"]) -> None:
    """Load alone, then train, and print what both needed."""
    config = TrainConfig(
        run=RunConfig(steps=UPDATES, log_every=UPDATES, device="cpu", execution=execution),
        data=DataConfig(dataset=str(folder)),
    )
    imports_mb = resident_mb("VmRSS")
    started = time.perf_counter()
    load_dataset(folder)
    loaded_s = time.perf_counter() - started
    forget_peak()
    train(config, folder / f"run-{execution}")
    line = {
        "benchmark": "data_memory",
        "storage": storage,
        "execution": execution,
        "transitions": EPISODES * EPISODE_LENGTH,
        "raw_data_mb": EPISODES * EPISODE_LENGTH * (OBSERVATION_SIZE + ACTION_SIZE + 1) * 4 >> 20,
        "imports_mb": imports_mb,
        "peak_above_imports_mb": resident_mb("VmHWM") - imports_mb,
        "after_training_above_imports_mb": resident_mb("VmRSS") - imports_mb,
        "load_s": round(loaded_s, 2),
        "updates": UPDATES,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(line))


def resident_mb(key: str) -> int:
    """Resident memory now (VmRSS) or at its peak (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) // 1024


def forget_peak() -> None:
    """Let VmHWM begin anew: what the imports needed for a moment is not meant."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
