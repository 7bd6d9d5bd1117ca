"""A dataset of another program."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage


def foreign_dataset(
    folder: Path, data_format: str, lengths: tuple[int, ...] = (5, 1, 9), rewards: Any = np.float32
) -> Path:
    """A dataset of another program: nested spaces, infos, seeds, and metadata of its own."""
    place = gym.spaces.Box(-np.inf, np.inf, (2, 2), dtype=np.float64)
    observation_space = gym.spaces.Dict({"state": place, "age": gym.spaces.Box(0, 1, (1,))})
    (folder / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        folder / "data",
        observation_space,
        gym.spaces.Box(-2.0, 2.0, (2,), dtype=np.float32),
        data_format=data_format,
    )
    storage.update_metadata(
        {
            "dataset_id": "walk-v3",
            "minari_version": minari.__version__,
            "author": {"Ann", "Ben"},
            "notes": {"weather": "dry"},
        }
    )
    rng = np.random.default_rng(0)
    storage.update_episodes(
        _buffer(rng, length, seed, rewards) for seed, length in enumerate(lengths)
    )
    storage.update_episode_metadata([{"place": f"hall {i}"} for i in range(len(lengths))])
    return folder


def _buffer(rng: np.random.Generator, length: int, seed: int, rewards: Any) -> EpisodeBuffer:
    never = np.zeros(length, dtype=bool)
    return EpisodeBuffer(
        seed=seed + 7,
        observations={
            "state": rng.normal(size=(length + 1, 2, 2)),
            "age": rng.uniform(size=(length + 1, 1)).astype(np.float32),
        },
        actions=rng.uniform(-2, 2, (length, 2)).astype(np.float32),
        rewards=rng.normal(size=length).astype(rewards),
        terminations=np.arange(length) == 3,
        truncations=never,
        infos={"heat": rng.normal(size=(length + 1, 3))},
    )
