"""PushT as the suite uses it: numbers of about one, and a reward that finishing ends.

`gym-pusht` pays the covered share of the goal in each step and ends when the block lies there: a
policy that finishes earns less than one that hesitates. Here each step pays that share less one,
so that finishing sooner earns more. Over the 300 steps of an episode, 1 + return / 300 is the mean
covered share, where a finished episode counts as covered.

Importing this module registers the environment `suite/PushT-v0`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

ENV_ID, MAX_STEPS = "suite/PushT-v0", 300
# Share of the goal that counts as all of it.
COVERED = 0.95
# Half the width of the table in pixels: where the agent and the block may be, and actions.
HALF_TABLE = 256.0


def scaled_state(state: NDArray[Any]) -> NDArray[np.float32]:
    """Bring states into [-1, 1], shape (..., 5).

    Args:
        state: Agent's x and y and block's x and y in pixels, and the block's angle in radians.
    """
    units = np.array([HALF_TABLE] * 4 + [np.pi])
    return np.asarray(np.asarray(state) / units - 1.0, dtype=np.float32)


def scaled_action(action: NDArray[Any]) -> NDArray[np.float32]:
    """Bring target positions in pixels into [-1, 1]."""
    return np.asarray(np.asarray(action) / HALF_TABLE - 1.0, dtype=np.float32)


class PushT(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """`gym-pusht`'s state environment with scaled observations, actions and rewards."""

    metadata = {"render_modes": []}  # noqa: RUF012 # as Gymnasium has it

    def __init__(self) -> None:
        from gym_pusht.envs.pusht import PushTEnv  # noqa: PLC0415 # an extra, see setup.py

        self._env = PushTEnv(obs_type="state")
        self.observation_space = Box(-np.inf, np.inf, (5,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start at a random state; see `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        state, info = self._env.reset(seed=seed, options=options)
        return scaled_state(state), {"is_success": info["is_success"]}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move towards a position for 0.1 s; see `gymnasium.Env.step`."""
        target = HALF_TABLE * (np.asarray(action, dtype=np.float64) + 1.0)
        state, reward, terminated, truncated, info = self._env.step(target)
        told = {"is_success": bool(info["is_success"])}
        return scaled_state(state), float(reward) - 1.0, bool(terminated), truncated, told

    def set_state(self, state: NDArray[Any]) -> None:
        """Put agent and block at rest where a recorded state has them, shape (5,)."""
        env = self._env
        env._setup()
        env.agent.position = tuple(map(float, state[:2]))
        self._place_block(state)
        env.space.reindex_shapes_for_body(env.block)

    def reward_in(self, state: NDArray[Any]) -> float:
        """Return what a step earns that ends in a recorded state, shape (5,); moves the block."""
        self._place_block(state)
        return float(np.clip(self._env._get_coverage() / COVERED, 0.0, 1.0)) - 1.0

    def _place_block(self, state: NDArray[Any]) -> None:
        # A new angle turns it about its centre of gravity, which moves its origin: angle first.
        self._env.block.angle = float(state[4])
        self._env.block.position = tuple(map(float, state[2:4]))


gym.register(ENV_ID, entry_point=f"{__name__}:PushT", max_episode_steps=MAX_STEPS)
