"""Episodes of a Gymnasium environment or an MJCF file laid out in simulated time; knows no ROS.

`open_environment` opens what `EpisodeRunner` steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces.utils import flatten
from gymnasium.wrappers import FlattenObservation, TimeLimit
from numpy.typing import NDArray

from dql_core.data.spaces import make_environment
from dql_core.errors import SimulationError, SpecMismatchError
from dql_core.sim import FAILURE_KEY, SCARA_ID, is_model_file
from dql_core.sim.model_env import ModelEnv, keyframe_index
from dql_core.sim.physics import watch_physics
from dql_ros.contract import Contract, TransformStream
from dql_ros.sim.model import open_model
from dql_ros.sim.result import EpisodeResult
from dql_ros.sim.task import ContractTask

Environment = gymnasium.Env[Any, NDArray[Any]]
BUNDLED_ENVIRONMENT = SCARA_ID
_RATE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Transition:
    """What a step led to.

    Attributes:
        reward: Its reward.
        terminated: Whether the task ended with it.
        truncated: Whether only the episode ended with it.
    """

    reward: float
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class Frame:
    """One simulated instant.

    Attributes:
        stamp_ns: Simulated time in nanoseconds; it never goes back, also over resets.
        observation: The environment's observation, shape (O,).
        transition: How this instant was reached; ``None`` for the first of an episode.
        result: The episode's result, if this instant ends it.
    """

    stamp_ns: int
    observation: NDArray[np.float64]
    transition: Transition | None = None
    result: EpisodeResult | None = None


class EpisodeRunner:
    """Steps an environment from episode to episode; episode i is reset with ``seed + i``."""

    def __init__(
        self,
        environment: Environment,
        period_ns: int,
        seed: int,
        episodes: int,
        task: ContractTask | None = None,
    ) -> None:
        """Prepare the first episode.

        Args:
            environment: What to step; observation (O,), action (A,).
            period_ns: Simulated time of one step in nanoseconds.
            seed: Seed of the first episode.
            episodes: How many episodes there are; 0 for no end.
            task: What judges the episodes, where the environment has no task.
        """
        self._environment = environment
        self._task = task
        self._period_ns = period_ns
        self._seed = seed
        self._episodes = episodes
        self._next_stamp_ns = 0
        self._episode = -1
        self._episode_seed = seed
        self._keyframe = ""
        self._asked_seed: int | None = None
        self._rewards: list[float] = []
        # Fixed now, since a step would look them up again.
        space: Any = environment.action_space
        self._low, self._high = space.low.ravel(), space.high.ravel()
        self._shape, self._dtype = space.shape, space.dtype

    @property
    def episode(self) -> int:
        """Number of the running episode, from 0; -1 before the first."""
        return self._episode

    @property
    def finished(self) -> bool:
        """Whether the last episode has begun and no other follows."""
        return self._episode + 1 == self._episodes

    def set_next_start(self, seed: int | None, keyframe: str) -> None:
        """Let the next episode begin otherwise than by its number, or from a keyframe.

        Args:
            seed: What the environment is reset with; ``None`` for the seed and episode number.
            keyframe: Name or number of the model's keyframe to begin in; empty for none.

        Raises:
            SimulationError: If there is no such keyframe.
        """
        if keyframe:
            require_keyframe(self._environment, keyframe)
        self._asked_seed, self._keyframe = seed, keyframe

    def begin(self) -> Frame:
        """Begin the next episode and return its first instant."""
        self._episode += 1
        self._rewards = []
        asked, self._asked_seed = self._asked_seed, None
        self._episode_seed = self._seed + self._episode if asked is None else asked
        observation = np.asarray(self._reset(), dtype=np.float64)
        if self._task is not None:
            self._task.begin(observation)
        return Frame(self._take_stamp(), observation)

    def advance(self, command: NDArray[np.float64], *, interrupt: bool = False) -> Frame:
        """Step once with ``command``, shape (A,), clipped to the action space.

        Args:
            command: What the robot was sent.
            interrupt: End the episode here as truncated.
        """
        action = np.clip(command, self._low, self._high).astype(self._dtype)
        step = self._environment.step(action.reshape(self._shape))
        observation, reward, terminated, truncated, info = step
        self._rewards.append(float(reward))
        if self._task is not None:
            ends = self._task.ends_with(action, observation)
            terminated = terminated or (ends and FAILURE_KEY not in info)
        terminated, truncated = bool(terminated), bool(truncated)
        transition = Transition(
            float(reward), terminated, truncated or (interrupt and not terminated)
        )
        return Frame(
            self._take_stamp(),
            np.asarray(observation, dtype=np.float64),
            transition,
            self._result(transition, info),
        )

    def _reset(self) -> NDArray[Any]:
        if isinstance(self._environment.unwrapped, ModelEnv):
            options = {"keyframe": self._keyframe}
            return self._environment.reset(seed=self._episode_seed, options=options)[0]  # type: ignore[no-any-return]
        observation: NDArray[Any] = self._environment.reset(seed=self._episode_seed)[0]
        return set_keyframe(self._environment, self._keyframe) if self._keyframe else observation

    def _take_stamp(self) -> int:
        stamp_ns = self._next_stamp_ns
        self._next_stamp_ns += self._period_ns
        return stamp_ns

    def _result(self, transition: Transition, info: dict[str, Any]) -> EpisodeResult | None:
        if not (transition.terminated or transition.truncated):
            return None
        success = bool(info["is_success"]) if "is_success" in info else None
        episode_return = None
        if self._task is not None:
            ends = {"terminated": transition.terminated, "truncated": transition.truncated}
            episode_return = self._task.episode_return(**ends)
            success = self._task.is_success(**ends) if success is None else success
        return EpisodeResult(
            episode=self._episode,
            seed=self._episode_seed,
            return_=sum(self._rewards) if episode_return is None else episode_return,
            length=len(self._rewards),
            terminated=transition.terminated,
            truncated=transition.truncated,
            success=success,
            failure=str(info.get(FAILURE_KEY, "")),
        )


def open_environment(
    env: str, contract: Contract, max_episode_steps: int = 0, reset_noise_scale: float = 0.0
) -> Environment:
    """Open an environment and check that it is the robot of ``contract``.

    Args:
        env: Gymnasium id, ``module:id`` to import a module that registers it, or the path of an
            MJCF file (.xml).
        contract: What its vectors are to be.
        max_episode_steps: Episodes are truncated after so many steps; 0 for the environment's own
            limit, of which an MJCF file has none.
        reset_noise_scale: How far from its start each joint of an MJCF file begins at most, in
            rad or m.

    Raises:
        DqlError: If there is no such environment, it is not the contract's, or it draws its starts
            by itself.
    """
    _require_topics(contract)
    if is_model_file(env):
        environment: Environment = watch_physics(
            open_model(Path(env).expanduser(), contract, reset_noise_scale)
        )
        return TimeLimit(environment, max_episode_steps) if max_episode_steps else environment
    if reset_noise_scale:
        raise SimulationError(
            f"'reset_noise_scale' {reset_noise_scale:g} is for an MJCF file, and environment "
            f"'{env}' draws its starts by itself: leave it out"
        )
    try:
        environment = make_environment(env, contract.policy_spec(), max_episode_steps or None)
    except SpecMismatchError as cause:
        if env != BUNDLED_ENVIRONMENT:
            raise
        raise SpecMismatchError(
            f"{cause}; it is the demo's arm, which is simulated unless 'env' names another robot"
        ) from cause
    try:
        _require_rate(env, environment, contract)
    except SimulationError:
        environment.close()
        raise
    is_vector = len(environment.observation_space.shape or ()) == 1
    return environment if is_vector else FlattenObservation(environment)


def _require_topics(contract: Contract) -> None:
    for stream in contract.observation:
        if isinstance(stream, TransformStream):
            raise SimulationError(
                f"'{stream.key}' is a pose out of tf's tree, which the simulation does not "
                f"broadcast: to simulate this robot, observe the pose on a topic of its own, such "
                f"as one of geometry_msgs/msg/PoseStamped"
            )


def task_of(environment: Environment, contract: Contract) -> ContractTask | None:
    """Return what judges the episodes of an MJCF file; other environments do it themselves.

    Raises:
        ContractError: If a function that the contract names cannot be called.
    """
    return ContractTask(contract) if isinstance(environment.unwrapped, ModelEnv) else None


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
