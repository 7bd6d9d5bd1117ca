"""What all methods have in common: the data, the rollouts, and the clock that rollouts stop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.suite.rows import Point
from benchmarks.suite.sets import TaskSet
from dql_core.data.dataset import LoadedDataset
from dql_core.evaluation.rollout import BatchPolicy, ParallelRollouts

EVALUATION_SEED = 10_000
STATE_FILE = "learner.pt"


@dataclass(frozen=True)
class Plan:
    """One training that is to be measured.

    All sets have actions from -1 to 1.

    Attributes:
        name: Of the set.
        task_set: The set, or what it is a subset of.
        dataset: Folder of the Minari dataset.
        seed: Of the training.
        updates: How many to take.
        points: How many policies to roll out, evenly spread over the updates.
        episodes: Rollouts of each.
        last_episodes: Rollouts of the last one.
        folder: Where the training may keep what it goes on from.
    """

    name: str
    task_set: TaskSet
    dataset: Path
    seed: int
    updates: int
    points: int
    episodes: int
    last_episodes: int
    folder: Path

    @property
    def every(self) -> int:
        """Updates between two policies that are rolled out."""
        return max(self.updates // self.points, 1)

    @property
    def steps(self) -> list[int]:
        """The steps whose policies are rolled out."""
        return [*range(self.every, self.updates, self.every), self.updates]


class Learner(Protocol):
    """Somebody else's training, a part at a time."""

    def learn(self, updates: int) -> float:
        """Take some updates and return the mean loss of the critics."""

    def policy(self) -> BatchPolicy:
        """Return what acts as learned so far."""


@runtime_checkable
class Resumable(Protocol):
    """A learner that goes on where it was interrupted, to the bit."""

    def state(self) -> dict[str, Any]:
        """Return all that the next update depends on: tensors, numbers, lists of them."""

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@dataclass
class Clock:
    """Time by the wall and of computing, while it runs.

    Attributes:
        seconds: By the wall.
        cpu_seconds: Of computing.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _since: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def __enter__(self) -> Clock:
        self._since = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since[0]
        self.cpu_seconds += time.process_time() - self._since[1]


class Rollouts:
    """Equal episodes for every policy of a set, whoever trained it.

    Args:
        plan: What is measured.
        data: The data that it learns from.
    """

    def __init__(self, plan: Plan, data: LoadedDataset) -> None:
        self._plan, self._spec = plan, data.spec
        self._rollouts = self._start(plan.episodes)

    def point(
        self, step: int, clock: Clock, policy: BatchPolicy, critic_loss: float | None
    ) -> Point:
        """Roll a policy out."""
        if step == self._plan.updates:
            self.close()
            self._rollouts = self._start(self._plan.last_episodes)
        result = self._rollouts.run(policy)
        assert result is not None  # nothing stops it
        rate = result.success_rate
        return Point(
            step,
            round(clock.seconds, 2),
            round(clock.cpu_seconds, 2),
            tuple(np.round(self._plan.task_set.reference.scores(result.returns), 3).tolist()),
            None if rate is None else rate.mean,
            critic_loss,
        )

    def close(self) -> None:
        """Close the environments."""
        self._rollouts.close()

    def _start(self, episodes: int) -> ParallelRollouts:
        env_id = self._plan.task_set.env_id
        return ParallelRollouts(env_id, self._spec, episodes, EVALUATION_SEED)


def measure(plan: Plan, data: LoadedDataset, learner: Learner) -> list[Point]:
    """Let a learner take all updates, and roll it out on the way.

    What is `Resumable` goes on at the last point of an interrupted measurement.
    """
    path, clock = plan.folder / STATE_FILE, Clock()
    curve: list[Point] = []
    if isinstance(learner, Resumable) and path.is_file():
        kept = torch.load(path, weights_only=True)
        learner.resume(kept["learner"])
        curve = [Point(**point) for point in kept["curve"]]
        clock = Clock(curve[-1].seconds, curve[-1].cpu_seconds)
    rollouts = Rollouts(plan, data)
    try:
        for step in plan.steps[len(curve) :]:
            with clock:
                critic_loss = learner.learn(step - (curve[-1].step if curve else 0))
            curve.append(rollouts.point(step, clock, learner.policy(), critic_loss))
            print(f"{plan.name} step {step}: {curve[-1].score:.1f}", flush=True)
            if isinstance(learner, Resumable):
                _keep(path, {"learner": learner.state(), "curve": [vars(each) for each in curve]})
    finally:
        rollouts.close()
    path.unlink(missing_ok=True)
    return curve


def _keep(path: Path, state: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


@dataclass(frozen=True)
class Transitions:
    """All transitions of a dataset, as other libraries take them.

    Attributes:
        observations: Shape (N, O), float32.
        actions: In [-1, 1], shape (N, A), float32.
        rewards: Shape (N,), float32.
        next_observations: Shape (N, O), float32.
        terminals: Where the task ended; a time limit is no end. Shape (N,).
        ends: Where an episode ends, shape (N,).
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    ends: NDArray[np.bool_]


def read_transitions(data: LoadedDataset) -> Transitions:
    """Return all transitions of a dataset whose actions are bounded by -1 and 1."""
    columns: list[list[NDArray[Any]]] = []
    for episode in data.episodes:
        last = np.arange(len(episode)) == len(episode) - 1
        columns.append(
            [
                episode.observations[:-1],
                episode.actions,
                episode.rewards.astype(np.float32),
                episode.observations[1:],
                last & episode.terminated,
                last,
            ]
        )
    return Transitions(*map(np.concatenate, zip(*columns, strict=True)))


def seed_of(rngs: Sequence[np.random.Generator]) -> int:
    """Draw a seed for a library whose randomness is one stream for all episodes."""
    return int(rngs[0].integers(2**31))
