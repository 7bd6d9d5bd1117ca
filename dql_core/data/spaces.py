"""Gymnasium spaces as flat vectors, both ways, and environments whose spaces fit a spec."""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces import Box, Dict, Space, Tuple
from numpy.typing import NDArray

from dql_core.errors import ConfigError, DatasetError, SpecMismatchError, one_line
from dql_core.sim import is_model_file  # which registers the bundled environments
from dql_core.spec import FieldSpec, PolicySpec

# Which lead to a part of nested spaces: names in a Dict, positions in a Tuple.
Keys = tuple[Any, ...]


def make_env(env_id: str, remedy: str, max_episode_steps: int | None = None) -> gym.Env[Any, Any]:
    """Make an environment; where MuJoCo simulates it, an episode ends when the physics is lost.

    Args:
        env_id: Gymnasium id, or ``module:id`` to import a module that registers it.
        remedy: What else the user can give, for the message.
        max_episode_steps: Truncate episodes after so many steps; by default after the
            environment's own limit.

    Raises:
        ConfigError: If there is no such environment.
    """
    if is_model_file(env_id):
        raise ConfigError(
            f"'{env_id}' is an MJCF file, which says nothing of observations and actions: step it "
            f"through a contract with 'dql closed-loop BUNDLE --contract CONTRACT --env FILE'; "
            f"here, {remedy}"
        )
    _import_environment(env_id)
    try:
        return watched(gym.make(env_id, max_episode_steps=max_episode_steps))
    except (gym.error.Error, ImportError, ValueError) as cause:
        raise ConfigError(
            f"environment '{env_id}' cannot be made: {one_line(cause)}; {remedy}"
        ) from cause


def _import_environment(env_id: str) -> None:
    """Import an environment's module; if MuJoCo comes with it, its warnings go to the log.

    It may warn as early as in the making of the environment, which reports what is wrong here.
    """
    with suppress(gym.error.Error, ImportError, ValueError, AttributeError):
        registered = gym.spec(env_id)
        if isinstance(registered.entry_point, str):
            load_env_creator(registered.entry_point)
    if "mujoco" in sys.modules:
        from dql_core.sim.physics import log_warnings  # noqa: PLC0415

        log_warnings()


def watched(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Return ``env``, with an eye on its physics if MuJoCo simulates it."""
    if "mujoco" not in sys.modules:  # importing it takes a while
        return env
    from dql_core.sim.physics import watch_physics  # noqa: PLC0415

    return watch_physics(env)


def make_environment(
    env_id: str, spec: PolicySpec, max_episode_steps: int | None = None
) -> gym.Env[Any, Any]:
    """Make an environment and compare its spaces with a policy's or contract's spec.

    Args:
        env_id: Gymnasium id, or ``module:id`` to import a module that registers it.
        spec: What the policy takes and gives.
        max_episode_steps: Truncate episodes after so many steps; by default after the
            environment's own limit.

    Raises:
        ConfigError: If there is no such environment.
        SpecMismatchError: If its spaces do not fit.
    """
    remedy = "give a Gymnasium id, or module:id to import the module that registers it"
    env = make_env(env_id, remedy, max_episode_steps)
    for kind, space, fields in (
        ("observation", env.observation_space, spec.observation),
        ("action", env.action_space, spec.action),
    ):
        if _width(space) != len(fields) or (kind == "action" and not isinstance(space, Box)):
            env.close()
            past = (
                ", the past among them (history, previous_action), which 'dql closed-loop' keeps"
                if kind == "observation" and spec.observes_past
                else ""
            )
            raise SpecMismatchError(
                f"environment '{env_id}' does not fit '{spec.robot}': its {kind} space is "
                f"{space}, where {len(fields)} {kind} fields are needed{past}"
            )
    return env


def obeyed_at_once(spec: PolicySpec) -> Iterator[str]:
    """Yield of each delay that the policy learned of, that rollouts in an environment lack it."""
    delays = {}
    for each in spec.action:
        source = each.source or {}
        delays[str(source.get("topic", each.name))] = source.get("delay_s")
    for topic, delay_s in delays.items():
        if isinstance(delay_s, float | int) and delay_s:
            yield (
                f"'{topic}' takes effect after {delay_s:g} s (delay_s), but in an environment at "
                f"once, so that the policy drives another robot than it learned: take 'dql "
                f"closed-loop --faults command_latency_ms={delay_s * 1000:g}'"
            )


def require_environment(env_id: str, spec: PolicySpec) -> None:
    """Refuse an environment that cannot be made or does not fit; see `make_environment`."""
    make_environment(env_id, spec).close()


def spec_from_spaces(
    observation_space: Space[Any],
    action_space: Space[Any],
    robot: str,
    where: str,
    remedy: str = "give them with --low and --high of 'dql import'",
) -> PolicySpec:
    """Describe a dataset or environment that brings no contract.

    Observations are Boxes of floats, alone or in nested Dicts and Tuples, and become fields in
    the order of `flatten`: ``observation[0]``, ``observation.achieved_goal[0]``,
    ``observation.1[0,2]``. Actions are one Box.

    Args:
        observation_space: Of the dataset or environment.
        action_space: Of the dataset or environment.
        robot: Name of the spec.
        where: What the spaces belong to, for messages.
        remedy: What to do about actions without bounds, for the message.

    Raises:
        DatasetError: If a space is of another kind, or the actions are unbounded.
    """
    if not isinstance(action_space, Box):
        raise DatasetError(
            f"{where}: the action space is {one_line(action_space)}; a Box is needed, since the "
            f"policy's actions are continuous"
        )
    action = tuple(_fields("action", action_space, where))
    with np.errstate(over="ignore"):
        half_range = (action_space.high - action_space.low).astype(np.float32) / 2
    if not (np.isfinite(half_range) & (half_range > 0)).all():
        raise DatasetError(
            f"{where}: the action space {one_line(action_space)} is unbounded or empty; the "
            f"policy needs a finite 'low' below a finite 'high' for each action: {remedy}"
        )
    return PolicySpec(
        robot=robot,
        rate_hz=0.0,
        observation=tuple(_fields("observation", observation_space, where)),
        action=action,
    )


def leaves(space: Space[Any], path: Keys = ()) -> Iterator[tuple[Keys, Space[Any]]]:
    """Yield the parts of nested Dicts and Tuples, and the keys that lead to each, in their order.

    The order is that of `gymnasium.spaces.utils.flatten`: a Tuple in its order, a Dict by its
    sorted keys (an unsorted one too, since Minari sorts what it stores).
    """
    parts: Iterable[tuple[Any, Space[Any]]] | None = None
    if isinstance(space, Dict):
        parts = sorted(space.spaces.items())
    elif isinstance(space, Tuple):
        parts = enumerate(space.spaces)
    if parts is None:
        yield path, space
    else:
        for key, part in parts:
            yield from leaves(part, (*path, key))


def flatten(space: Space[Any], value: Any, batch_dims: int = 0) -> NDArray[np.float32]:
    """Lay a value of a space out as one vector, (n,), or many values as many vectors, (..., n).

    The parts come in the order of `leaves`, each Box row by row.

    Args:
        space: The space of one value, as `spec_from_spaces` accepts it.
        value: An element of ``space``, or its arrays with further axes in front: 1 for an episode
            or for the observation of a vector environment.
        batch_dims: Number of axes in front.
    """
    return join(
        [functools.reduce(operator.getitem, path, value) for path, _ in leaves(space)], batch_dims
    )


def join(parts: Sequence[Any], batch_dims: int = 0) -> NDArray[np.float32]:
    """Lay the arrays of the leaves of a space out as `flatten` does."""
    arrays = [np.asarray(part, dtype=np.float32) for part in parts]
    # A size of -1 is no size where there are no rows.
    rows = [
        array.reshape(*array.shape[:batch_dims], math.prod(array.shape[batch_dims:]))
        for array in arrays
    ]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, axis=-1)


def unflatten_action(space: Box, action: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Bring flat actions, shape (..., A), to the shape and number type of their space."""
    return action.reshape(*action.shape[:-1], *space.shape).astype(space.dtype)


def _fields(kind: str, space: Space[Any], where: str) -> Iterator[FieldSpec]:
    for path, leaf in leaves(space):
        name = ".".join([kind, *map(str, path)])
        if not isinstance(leaf, Box) or not np.issubdtype(leaf.dtype, np.floating):
            raise DatasetError(
                f"{where}: the space of '{name}' is {one_line(leaf)}; Boxes of floats are needed, "
                f"alone or in Dicts and Tuples: leave it out, or make floats of it"
            )
        for index in np.ndindex(*leaf.shape):
            position = f"[{','.join(map(str, index))}]" if index else ""
            yield FieldSpec(name + position, "", float(leaf.low[index]), float(leaf.high[index]))


def _width(space: Space[Any]) -> int:
    """Return how many numbers a value of ``space`` has; 0 if it holds anything but Boxes."""
    sizes = [part.low.size if isinstance(part, Box) else 0 for _, part in leaves(space)]
    return sum(sizes) if all(sizes) else 0
