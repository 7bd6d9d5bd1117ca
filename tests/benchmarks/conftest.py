"""A made actor of Hopper, and the rows of results that tables are made from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.suite.rows import Point, Row

torch.set_num_threads(1)
HOPPER = 11, 3


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    """A folder of small random actors of Hopper, one of each kind."""
    folder = tmp_path / "agents"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for algorithm in ("a2c", "sac", "ppo", "trpo", "tqc"):
        np.savez(folder / f"hopper-{algorithm}.npz", **actor_arrays(rng, algorithm))
    return folder


def actor_arrays(rng: np.random.Generator, algorithm: str) -> dict[str, Any]:
    """The arrays of an actor with one hidden layer of eight units."""
    observations, actions = HOPPER

    def layer(outputs: int, inputs: int, name: str) -> dict[str, Any]:
        weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
        return {f"{name}_weight": weight, f"{name}_bias": np.zeros(outputs, np.float32)}

    arrays = layer(8, observations, "hidden_0") | layer(actions, 8, "mean")
    if algorithm in {"sac", "tqc"}:
        return arrays | layer(actions, 8, "log_std") | {"activation": "relu", "squash": "tanh"}
    return arrays | {
        "log_std": np.full(actions, -1.0, np.float32),
        "obs_mean": np.zeros(observations),
        "obs_var": np.ones(observations),
        "obs_clip": 10.0,
        "activation": "tanh",
        "squash": "clip",
    }


def made_row(set_name: str, method: str, seed: int, *scores: float, **more: Any) -> Row:
    """A row whose policies scored so after 10 s and updates each, every episode alike."""
    curve = tuple(
        Point(10 * n, 10.0 * n, 9.0 * n, (score, score)) for n, score in enumerate(scores, 1)
    )
    updates = 10 * len(scores)
    return Row(set_name, method, seed, updates, curve, 20.0, "0" * 64, **more)
