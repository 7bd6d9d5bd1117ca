"""d3rlpy's fitted Q evaluation of the same policies by the same transitions.

The library is no part of the project's environment: see benchmarks/suite/requirements-d3rlpy.txt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.suite.d3rlpy_baselines import as_dataset, load_library
from benchmarks.suite.measuring import Clock, Transitions, read_transitions
from dql_core.data.dataset import LoadedDataset
from dql_core.normalize import Normalizer

ONE_EPOCH = 500


@dataclass(frozen=True)
class Answers:
    """What a policy did where it was asked.

    Attributes:
        observations: Raw, shape (V, O).
        actions: Shape (V, A).
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write both."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, observations=self.observations, actions=self.actions)

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read both."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["observations"], file["actions"])


@dataclass(frozen=True)
class Fitted:
    """What d3rlpy says of a policy.

    Attributes:
        value: Discounted return from the first states.
        transitions: How many it was fitted to.
        seconds: What it took by the clock on the wall.
        cpu_seconds: What it took of computing.
    """

    value: float
    transitions: int
    seconds: float
    cpu_seconds: float


class KnownActions:
    """What d3rlpy takes for an algorithm: it only says what is done in a state.

    Of the algorithm that `FQE` evaluates it uses ``impl.predict_best_action`` alone. Asking a
    policy with 50 candidates anew in every update would take hours, and it would answer alike.

    Args:
        observations: As the library is given them, shape (V, O).
        actions: Shape (V, A).
    """

    def __init__(self, observations: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
        self._rows = {each.tobytes(): row for row, each in enumerate(observations)}
        # What d3rlpy asks for where the task has ended; what is done there does not count.
        self._rows.setdefault(np.zeros_like(observations[0]).tobytes(), 0)
        self._actions = torch.as_tensor(actions)

    @property
    def impl(self) -> KnownActions:
        """The same."""
        return self

    def predict_best_action(self, observations: Tensor) -> Tensor:
        """Return what is done in each of B states, (B, O) -> (B, A)."""
        rows = [self._rows[each.tobytes()] for each in observations.numpy()]
        return self._actions[rows]


def fit(
    held_out: LoadedDataset, answers: Answers, discount: float, updates: int, seed: int
) -> Fitted:
    """Evaluate a policy with d3rlpy's settings, on standardised observations.

    Args:
        held_out: What it is judged by; the transitions after which the policy was asked.
        answers: What the policy did.
        discount: Of the value.
        updates: How many to take, a multiple of `ONE_EPOCH` if more than that.
        seed: Of networks and batches.

    Raises:
        ConfigError: If the library is not installed.
    """
    d3rlpy = load_library()
    d3rlpy.seed(seed)
    scale = Normalizer.fit(
        np.concatenate([episode.observations[:-1] for episode in held_out.episodes]),
        held_out.spec,
    ).observation
    known = {each.tobytes() for each in answers.observations}
    transitions = _asked(read_transitions(held_out), known, scale)
    seen = scale(answers.observations)
    algorithm = d3rlpy.ope.FQE(
        algo=KnownActions(seen, answers.actions),
        config=d3rlpy.ope.FQEConfig(gamma=discount),
        device="cpu:0",
    )
    with Clock() as clock:
        for _ in algorithm.fitter(
            as_dataset(d3rlpy, transitions),
            n_steps=updates,
            n_steps_per_epoch=min(ONE_EPOCH, updates),
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            show_progress=False,
        ):
            pass
    first = scale(np.stack([episode.observations[0] for episode in held_out.episodes]))
    actions = KnownActions(seen, answers.actions).predict_best_action(torch.as_tensor(first))
    values = algorithm.predict_value(first, actions.numpy())
    return Fitted(
        float(np.mean(values)),
        len(transitions.rewards),
        round(clock.seconds, 1),
        round(clock.cpu_seconds, 1),
    )


def _asked(all_of_them: Transitions, known: set[bytes], scale: Any) -> Transitions:
    """Return the transitions after which a policy was asked, each an episode of its own."""
    rows = np.array([each.tobytes() in known for each in all_of_them.next_observations])
    return Transitions(
        observations=scale(all_of_them.observations[rows]),
        actions=all_of_them.actions[rows],
        rewards=all_of_them.rewards[rows],
        next_observations=scale(all_of_them.next_observations[rows]),
        terminals=all_of_them.terminals[rows],
        ends=np.ones(int(rows.sum()), dtype=bool),
    )
