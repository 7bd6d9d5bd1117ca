"""TD3+BC and IQL of d3rlpy with the settings of its own reproductions of their papers.

The library is no part of the project's environment: see requirements-d3rlpy.txt.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.suite.measuring import Plan, Transitions
from dql_core.errors import ConfigError


class D3rlpyLearner:
    """An algorithm of d3rlpy.

    Args:
        method: ``d3rlpy_td3_bc`` or ``d3rlpy_iql``.
        plan: What is measured.
        transitions: What it learns from.

    Raises:
        ConfigError: If the library is not installed, or the plan cannot be kept with it.
    """

    def __init__(self, method: str, plan: Plan, transitions: Transitions) -> None:
        library = load_library()
        if plan.updates % plan.points:
            raise ConfigError("--updates: must be a multiple of --points for d3rlpy")
        library.seed(plan.seed)
        make = {"d3rlpy_td3_bc": _td3_bc, "d3rlpy_iql": _iql}[method]
        self._algorithm = make(library, plan.updates).create(device="cpu:0")
        self._parts = self._algorithm.fitter(
            as_dataset(library, transitions),
            n_steps=plan.updates,
            n_steps_per_epoch=plan.every,
            logger_adapter=library.logging.NoopAdapterFactory(),
            show_progress=False,
        )
        self._every = plan.every

    def learn(self, updates: int) -> float:
        """Take the updates of one epoch, which are as many as it has."""
        assert updates == self._every
        _, metrics = next(self._parts)
        return float(metrics["critic_loss"])

    def policy(self) -> D3rlpyPolicy:
        """Return what acts as learned so far."""
        return D3rlpyPolicy(self._algorithm)


class D3rlpyPolicy:
    """The greedy action of an algorithm, which both papers evaluate."""

    def __init__(self, algorithm: Any) -> None:
        self._algorithm = algorithm

    def act_for_each(
        self, observations: NDArray[np.float32], rngs: Sequence[np.random.Generator]
    ) -> NDArray[np.float32]:
        """Return the action for each observation; nothing is drawn."""
        actions = self._algorithm.predict(observations)
        return np.asarray(np.clip(actions, -1.0, 1.0), dtype=np.float32)


def load_library() -> Any:
    """Return the module, which says little.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            import d3rlpy  # noqa: PLC0415 # no part of the environment
    except ImportError as cause:
        raise ConfigError(
            f"{cause}; install it: pip install --no-deps -r "
            f"benchmarks/suite/requirements-d3rlpy.txt"
        ) from cause
    import structlog  # noqa: PLC0415 # comes with it

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return d3rlpy


def _td3_bc(library: Any, updates: int) -> Any:
    return library.algos.TD3PlusBCConfig(
        observation_scaler=library.preprocessing.StandardObservationScaler()
    )


def _iql(library: Any, updates: int) -> Any:
    optimizers = library.optimizers
    schedule = optimizers.lr_schedulers.CosineAnnealingLRFactory(T_max=updates)
    return library.algos.IQLConfig(
        reward_scaler=library.preprocessing.ReturnBasedRewardScaler(multiplier=1000.0),
        actor_optim_factory=optimizers.AdamFactory(lr_scheduler_factory=schedule),
    )


def as_dataset(library: Any, transitions: Transitions) -> Any:
    """Return the transitions as the library's dataset.

    It makes no transition of the last row of an episode that was cut off. So a row with what
    followed is added there, and no transition is lost.
    """
    timeouts = transitions.ends & ~transitions.terminals
    after = np.flatnonzero(timeouts) + 1
    rows, added = len(timeouts), np.arange(len(after))

    def with_rows(column: NDArray[Any], values: NDArray[Any] | float) -> NDArray[Any]:
        return np.insert(column, after, values, axis=0)

    ends = np.zeros(rows + len(after), dtype=np.float32)
    ends[after + added] = 1.0
    return library.dataset.MDPDataset(
        with_rows(transitions.observations, transitions.next_observations[after - 1]),
        with_rows(transitions.actions, 0.0),
        with_rows(transitions.rewards, 0.0),
        with_rows(transitions.terminals.astype(np.float32), 0.0),
        ends,
        action_space=library.ActionSpace.CONTINUOUS,
    )
