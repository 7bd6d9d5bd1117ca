"""Gymnasium environments that a policy fits."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box, Dict, Space, Tuple

import dql_core.sim  # noqa: F401 - registers the bundled environment
from dql_core.errors import ConfigError, SpecMismatchError
from dql_core.spec import PolicySpec


def make_environment(env_id: str, spec: PolicySpec) -> gym.Env[Any, Any]:
    """Make an environment and compare its spaces with a policy's spec.

    Args:
        env_id: Gymnasium id, or ``module:id`` to import a module that registers it.
        spec: What the policy takes and gives.

    Raises:
        ConfigError: If there is no such environment.
        SpecMismatchError: If its spaces do not fit.
    """
    try:
        env: gym.Env[Any, Any] = gym.make(env_id)
    except (gym.error.Error, ImportError, ValueError) as cause:
        reason = " ".join(str(cause).split())
        raise ConfigError(
            f"environment '{env_id}' cannot be made: {reason}; give a Gymnasium id, or module:id "
            f"to import the module that registers it"
        ) from cause
    for kind, space, fields in (
        ("observation", env.observation_space, spec.observation),
        ("action", env.action_space, spec.action),
    ):
        if _width(space) != len(fields) or (kind == "action" and not isinstance(space, Box)):
            env.close()
            raise SpecMismatchError(
                f"environment '{env_id}' and the policy of '{spec.robot}' do not fit: the "
                f"{kind} space is {space}, the policy has {len(fields)} {kind} fields"
            )
    return env


def require_environment(env_id: str, spec: PolicySpec) -> None:
    """Refuse an environment that cannot be made or does not fit; see `make_environment`."""
    make_environment(env_id, spec).close()


def _width(space: Space[Any]) -> int:
    """Return how many numbers a value of ``space`` has; 0 if it holds anything but Boxes."""
    if isinstance(space, Box):
        return int(space.low.size)
    if not isinstance(space, (Dict, Tuple)):
        return 0
    parts = list(space.spaces.values() if isinstance(space, Dict) else space.spaces)
    widths = [_width(part) for part in parts]
    return sum(widths) if all(widths) else 0
