"""The policy node as it is, with decisions that take longer, and every command taken down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.bundle_policy import BundlePolicy
from dql_core.runtime.controller import Command, State
from dql_core.runtime.policy import Committed, Decision
from dql_core.streams import Observation
from dql_ros.control.health import LoopStatistics
from dql_ros.nodes import control_loop, policy_node

COMMANDS_VARIABLE, STALL_VARIABLE = "DQL_BENCHMARK_COMMANDS", "DQL_BENCHMARK_STALL_S"
# Of a tick: whether the policy acted, whether by a decision that had just come in, and whether
# that was the first of an episode.
RUNNING, NEW, FIRST = 0, 1, 2
FLAGS = 3
_act, _reset = BundlePolicy.act, BundlePolicy.reset


def act_later(
    policy: BundlePolicy,
    observation: NDArray[np.float32],
    rng: np.random.Generator,
    committed: Committed | None = None,
) -> Decision:
    """Decide, and then take so much longer as the environment says."""
    decision = _act(policy, observation, rng, committed)
    time.sleep(float(os.environ[STALL_VARIABLE]))
    return decision


def reset_seen(policy: BundlePolicy) -> None:
    """Begin an episode, and take note that its first decision is still to come in."""
    _reset(policy)
    Taken.is_first = True


class Taken(LoopStatistics):
    """Takes down the command of each tick."""

    rows: list[NDArray[np.float64]] = []  # noqa: RUF012 - of the one loop of this process
    is_first = True

    def add(self, begun_ns: int, observation: Observation, command: Command) -> None:
        """Take note of a tick."""
        super().add(begun_ns, observation, command)
        if command.values is not None:
            is_running = command.state is State.RUNNING
            is_new = is_running and command.decision is not None
            flags = [is_running, is_new, is_new and Taken.is_first]
            Taken.is_first &= not is_new
            self.rows.append(np.concatenate([flags, command.values]))


def main() -> None:
    """Run the node until it is told to end, then write what was sent."""
    vars(control_loop)["LoopStatistics"] = Taken
    patched: Any = BundlePolicy
    patched.act, patched.reset = act_later, reset_seen
    try:
        policy_node.main()
    finally:
        with Path(os.environ[COMMANDS_VARIABLE]).open("wb") as file:
            np.save(file, np.array(Taken.rows))


if __name__ == "__main__":
    main()
