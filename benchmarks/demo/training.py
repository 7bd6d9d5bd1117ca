"""One training on the demo robot's data, with its time and its rollouts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.demo.episodes import Episodes, drive
from dql_core.config import load_config
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_core.training.run_files import read_run_info


@dataclass(frozen=True)
class Agent:
    """What is trained.

    Attributes:
        key: Its name in JSON.
        label: Its name for people.
        config: Training configuration under config/.
        overrides: ``section.key=value`` on top of it.
        plain: Key of the agent that this one makes faster; empty for an agent of its own.
    """

    key: str
    label: str
    config: str
    overrides: tuple[str, ...] = ("run.execution=eager",)
    plain: str = ""


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        episodes: Rollouts of the last checkpoint.
        steps: Updates taken.
        updates_per_s: Updates in a second, without the first ones up to the first reading.
        updates_per_cpu_s: The same in a second of the process's own computing.
        first_update_s: Time of the first update, compilation included.
    """

    episodes: Episodes
    steps: int
    updates_per_s: float
    updates_per_cpu_s: float
    first_update_s: float


@dataclass
class _Clock:
    """Notes when readings came."""

    readings: list[tuple[int, float, float]] = field(default_factory=list)

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        self.readings.append((step, time.perf_counter(), time.process_time()))

    def updates_per_s(self, *, cpu: bool) -> float:
        """Speed from the first reading to the last."""
        first, last = self.readings[0], self.readings[-1]
        kind = 2 if cpu else 1
        return (last[0] - first[0]) / (last[kind] - first[kind])


def train_and_drive(
    config: Path, overrides: tuple[str, ...], out: Path, first_seed: int, episodes: int
) -> Trained:
    """Train on one thread and roll out; meant for a process of its own.

    Args:
        config: Training configuration.
        overrides: ``section.key=value`` on top of it.
        out: The run's folder.
        first_seed: Episode i starts from ``first_seed + i``.
        episodes: Number of rollouts.
    """
    settings = load_config(
        config, ("run.num_threads=1", "run.device=cpu", "run.log_every=50", *overrides)
    )
    clock = _Clock()
    train(settings, out, clock)
    return Trained(
        episodes=drive(load_checkpoint(out), first_seed, episodes),
        steps=settings.run.steps,
        updates_per_s=clock.updates_per_s(cpu=False),
        updates_per_cpu_s=clock.updates_per_s(cpu=True),
        first_update_s=read_run_info(out)["first_update_s"],
    )
