"""Episodes of a Gymnasium environment laid out in simulated time; knows no ROS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import Error as GymnasiumError
from numpy.typing import NDArray

import dql_core.sim  # registers the bundled robots
from dql_core.errors import SimulationError, did_you_mean
from dql_core.spec import PolicySpec

Environment = gymnasium.Env[NDArray[Any], NDArray[Any]]
BUNDLED_ENVIRONMENT = dql_core.sim.SCARA_ID


@dataclass(frozen=True)
class EpisodeResult:
    """What became of one episode.

    Attributes:
        episode: Its number, from 0.
        seed: What the environment was reset with.
        return_: Undiscounted sum of its rewards.
        length: Number of transitions.
        terminated: Whether the task itself ended it.
        truncated: Whether a time limit or a reset ended it.
        success: Whether the environment calls it a success (``info["is_success"]``); ``None`` if
            it does not say.
    """

    episode: int
    seed: int
    return_: float
    length: int
    terminated: bool
    truncated: bool
    success: bool | None

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps({key.rstrip("_"): value for key, value in vars(self).items()})

    @classmethod
    def from_json(cls, line: str) -> EpisodeResult:
        """Rebuild the result that `to_json` wrote."""
        document = json.loads(line)
        return cls(return_=document.pop("return"), **document)


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

    def __init__(self, environment: Environment, period_ns: int, seed: int, episodes: int) -> None:
        """Prepare the first episode.

        Args:
            environment: What to step; observation (O,), action (A,).
            period_ns: Simulated time of one step in nanoseconds.
            seed: Seed of the first episode.
            episodes: How many episodes there are; 0 for no end.
        """
        self._environment = environment
        self._period_ns = period_ns
        self._seed = seed
        self._episodes = episodes
        self._next_stamp_ns = 0
        self._episode = -1
        self._rewards: list[float] = []

    @property
    def finished(self) -> bool:
        """Whether the last episode has begun and no other follows."""
        return self._episode + 1 == self._episodes

    def begin(self) -> Frame:
        """Begin the next episode and return its first instant."""
        self._episode += 1
        self._rewards = []
        observation, _ = self._environment.reset(seed=self._seed + self._episode)
        return Frame(self._take_stamp(), np.asarray(observation, dtype=np.float64))

    def advance(self, command: NDArray[np.float64], *, interrupt: bool = False) -> Frame:
        """Step once with ``command``, shape (A,), clipped to the action space.

        Args:
            command: What the robot was sent.
            interrupt: End the episode here as truncated.
        """
        space = self._environment.action_space
        action = np.clip(command, space.low, space.high).astype(space.dtype)  # type: ignore[attr-defined]
        observation, reward, terminated, truncated, info = self._environment.step(action)
        self._rewards.append(float(reward))
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

    def _take_stamp(self) -> int:
        stamp_ns = self._next_stamp_ns
        self._next_stamp_ns += self._period_ns
        return stamp_ns

    def _result(self, transition: Transition, info: dict[str, Any]) -> EpisodeResult | None:
        if not (transition.terminated or transition.truncated):
            return None
        return EpisodeResult(
            episode=self._episode,
            seed=self._seed + self._episode,
            return_=sum(self._rewards),
            length=len(self._rewards),
            terminated=transition.terminated,
            truncated=transition.truncated,
            success=bool(info["is_success"]) if "is_success" in info else None,
        )


def open_environment(env_id: str, spec: PolicySpec) -> Environment:
    """Make the environment ``env_id`` and check that it has the widths of ``spec``.

    Raises:
        SimulationError: If there is no such environment, or its vectors are not the contract's.
    """
    try:
        environment: Environment = gymnasium.make(env_id)
    except (GymnasiumError, ModuleNotFoundError) as error:
        hint = "" if env_id in gymnasium.registry else did_you_mean(env_id, gymnasium.registry)
        raise SimulationError(f"no environment '{env_id}': {error}{hint}") from error
    for kind, space, fields in (
        ("observation", environment.observation_space, spec.observation),
        ("action", environment.action_space, spec.action),
    ):
        if not isinstance(space, gymnasium.spaces.Box) or space.shape != (len(fields),):
            environment.close()
            raise SimulationError(
                f"environment '{env_id}' has the {kind} space {space}, but the contract of "
                f"'{spec.robot}' has {len(fields)} {kind} fields: use the environment's own "
                f"contract"
            )
    return environment
