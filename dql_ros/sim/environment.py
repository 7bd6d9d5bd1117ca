"""Opens what the simulation bridge steps: a Gymnasium environment by id, or an MJCF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces.utils import flatten
from gymnasium.wrappers import FlattenObservation, TimeLimit
from numpy.typing import NDArray

import dql_core.sim  # registers the bundled robots
from dql_core.errors import SimulationError
from dql_core.evaluation.rollout import make_environment
from dql_core.sim.model_env import keyframe_index
from dql_ros.contract import Contract
from dql_ros.sim.model import open_model

Environment = gymnasium.Env[Any, NDArray[Any]]
BUNDLED_ENVIRONMENT = dql_core.sim.SCARA_ID
_RATE_TOLERANCE = 1e-6


def open_environment(env: str, contract: Contract, max_episode_steps: int = 0) -> Environment:
    """Open an environment and check that it is the robot of ``contract``.

    Args:
        env: Gymnasium id, ``module:id`` to import a module that registers it, or the path of an
            MJCF file (.xml).
        contract: What its vectors are to be.
        max_episode_steps: Episodes are truncated after so many steps; 0 for the environment's own
            limit, of which an MJCF file has none.

    Raises:
        DqlError: If there is no such environment, or it is not the contract's.
    """
    if env.endswith(".xml"):
        environment: Environment = open_model(Path(env).expanduser(), contract)
        return TimeLimit(environment, max_episode_steps) if max_episode_steps else environment
    environment = make_environment(env, contract.policy_spec(), max_episode_steps or None)
    try:
        _require_rate(env, environment, contract)
    except SimulationError:
        environment.close()
        raise
    is_vector = len(environment.observation_space.shape or ()) == 1
    return environment if is_vector else FlattenObservation(environment)


def set_keyframe(environment: Environment, keyframe: str) -> NDArray[Any]:
    """Move a Gymnasium MuJoCo environment to a keyframe of its model; return the observation.

    Raises:
        SimulationError: If it has no such keyframe, or is no MuJoCo environment.
    """
    bare: Any = environment.unwrapped
    if not all(hasattr(bare, name) for name in ("set_state", "_get_obs")):
        raise _without_keyframes(environment)
    key = bare.model.key(require_keyframe(environment, keyframe))
    bare.set_state(key.qpos.copy(), key.qvel.copy())
    observation = bare._get_obs()  # what such environments observe with
    return np.asarray(flatten(bare.observation_space, observation))


def require_keyframe(environment: Environment, keyframe: str) -> int:
    """Return the number of a keyframe of the environment's model.

    Raises:
        SimulationError: If there is none, naming those that it has.
    """
    model = getattr(environment.unwrapped, "model", None)
    if model is None:
        raise _without_keyframes(environment)
    return keyframe_index(model, keyframe)


def _without_keyframes(environment: Environment) -> SimulationError:
    name = environment.spec.id if environment.spec else type(environment.unwrapped).__name__
    return SimulationError(f"environment '{name}' has no keyframes: leave 'keyframe' empty")


def _require_rate(env: str, environment: Environment, contract: Contract) -> None:
    """Compare the control periods, where the environment has its own."""
    period_s = getattr(environment.unwrapped, "dt", None)
    wanted_s = contract.period_ns / 1e9
    if isinstance(period_s, float) and not np.isclose(period_s, wanted_s, rtol=_RATE_TOLERANCE):
        raise SimulationError(
            f"environment '{env}' is controlled every {period_s:g} s, but the contract of "
            f"'{contract.robot}' every {wanted_s:g} s: set 'rate_hz: {1 / period_s:g}' in the "
            f"contract"
        )
