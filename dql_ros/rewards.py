"""Rewards computed from an episode: the way to call such functions, and the bundled ones.

A contract names a function as ``module:function``, with keyword arguments. It is called with the
observations, shape (T + 1, O), the actions, shape (T, A), and the `PolicySpec` that names their
fields, and returns T rewards; ``rewards[t]`` is for the transition from ``observations[t]`` by
``actions[t]`` to ``observations[t + 1]``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, did_you_mean
from dql_core.spec import PolicySpec
from dql_ros.contract import RewardFunction

Rewards = Callable[
    [NDArray[np.float32], NDArray[np.float32], PolicySpec], NDArray[np.floating[Any]]
]


def negative_distance(
    observations: NDArray[np.float32],
    actions: NDArray[np.float32],
    spec: PolicySpec,
    *,
    position: Sequence[str],
    goal: Sequence[str],
) -> NDArray[np.float64]:
    """Minus the Euclidean distance to the goal that each action led to, in the fields' unit.

    Args:
        observations: Shape (T + 1, O).
        actions: Shape (T, A).
        spec: Names the fields.
        position: Observation fields of the robot's position.
        goal: Observation fields of the goal's, in the same order.

    Raises:
        ContractError: If a field does not exist, or the two differ in number.
    """
    if len(position) != len(goal):
        raise ContractError(
            f"reward: 'position' names {len(position)} fields and 'goal' {len(goal)}; they must "
            f"be as many"
        )
    here = observations[1:, field_indices(spec, position)].astype(np.float64)
    there = observations[1:, field_indices(spec, goal)].astype(np.float64)
    distance: NDArray[np.float64] = np.linalg.norm(here - there, axis=1)
    return -distance


def field_indices(spec: PolicySpec, names: Sequence[str]) -> list[int]:
    """Positions of observation fields in the vector.

    Raises:
        ContractError: Naming the field that does not exist, and the nearest that does.
    """
    known = [field.name for field in spec.observation]
    for name in names:
        if name not in known:
            raise ContractError(
                f"reward: no observation field '{name}'{did_you_mean(name, known)}"
            )
    return [known.index(name) for name in names]


def load_rewards(reward: RewardFunction) -> Rewards:
    """Import the function that a contract names, with its arguments.

    Raises:
        ContractError: If there is no such function, or it does not take the arguments.
    """
    module_name, name = reward.function.split(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as cause:
        raise ContractError(
            f"reward: cannot import '{module_name}': {cause}; install it, or set PYTHONPATH to "
            f"its folder"
        ) from cause
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ContractError(
            f"reward: '{module_name}' has no function '{name}'{did_you_mean(name, functions)}"
        )
    try:
        inspect.signature(function).bind(None, None, None, **reward.arguments)
    except TypeError as cause:
        raise ContractError(f"reward: {reward.function}: {cause}") from cause
    return lambda observations, actions, spec: _checked(
        reward.function, function(observations, actions, spec, **reward.arguments), len(actions)
    )


def _checked(name: str, rewards: Any, length: int) -> NDArray[np.floating[Any]]:
    shape = np.shape(rewards)
    if shape != (length,):
        raise ContractError(f"reward: {name} returned shape {shape}, not ({length},)")
    checked = np.asarray(rewards, dtype=np.float64)
    if not np.isfinite(checked).all():
        step = int(np.flatnonzero(~np.isfinite(checked))[0])
        raise ContractError(f"reward: {name} returned {checked[step]} at step {step}")
    return checked
