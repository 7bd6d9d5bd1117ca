"""A contract's own reward, end and success, for a simulated robot that has no task of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.rewards import LoggedEpisode, outside_bounds
from dql_core.rewards.call import load_function, load_predicate, load_rewards
from dql_ros.contract import Contract, Predicate

_FIRST_ROOM = 256


class ContractTask:
    """Judges an episode while it runs, with the functions that the converter calls later.

    A predicate is asked after each step about the episode so far. The rewards are asked for once,
    about the whole episode.

    Args:
        contract: Names the functions.

    Raises:
        ContractError: If a function that it names cannot be called.
    """

    def __init__(self, contract: Contract) -> None:
        rules, functions = contract.episode, contract.reward_functions
        self._spec = contract.policy_spec()
        self._rewards = load_rewards(functions) if functions else None
        self._ends = self._succeeds = None
        if isinstance(rules.terminated, Predicate):
            self._ends = load_predicate(rules.terminated)
            if load_function(rules.terminated.function) is not outside_bounds:
                self._succeeds = self._ends
        if rules.success is not None:
            self._succeeds = load_predicate(rules.success, "episode.success")
        self._observations = np.zeros((_FIRST_ROOM, len(self._spec.observation)), np.float32)
        self._actions = np.zeros((_FIRST_ROOM, len(self._spec.action)), np.float32)
        self._length = 0

    def begin(self, observation: NDArray[Any]) -> None:
        """Begin an episode with its first observation, shape (O,)."""
        self._length = 0
        self._observations[0] = observation

    def ends_with(self, action: NDArray[Any], observation: NDArray[Any]) -> bool:
        """Take in a step, shapes (A,) and (O,); say whether the task ends with it."""
        self._length += 1
        if self._length == len(self._observations):
            self._observations = np.concatenate([self._observations] * 2)
            self._actions = np.concatenate([self._actions] * 2)
        self._actions[self._length - 1] = action
        self._observations[self._length] = observation
        return self._ends is not None and bool(self._ends(self._episode())[-1])

    def episode_return(self, *, terminated: bool, truncated: bool) -> float | None:
        """Return the sum of the rewards; ``None`` if the contract has no function for them."""
        if self._rewards is None:
            return None
        success = self.is_success(terminated=terminated, truncated=truncated)
        episode = replace(self._episode(terminated, truncated), success=success)
        return float(self._rewards(episode).sum())

    def is_success(self, *, terminated: bool, truncated: bool) -> bool | None:
        """Say whether the task succeeded at any step; ``None`` if the contract does not say.

        Without ``episode.success`` it is the end of the task, unless that is to be outside of
        bounds, which is none.
        """
        if self._succeeds is None:
            return None
        return bool(self._succeeds(self._episode(terminated, truncated)).any())

    def _episode(self, terminated: bool = False, truncated: bool = False) -> LoggedEpisode:
        return LoggedEpisode(
            self._observations[: self._length + 1],
            self._actions[: self._length],
            self._spec,
            terminated,
            truncated,
        )
