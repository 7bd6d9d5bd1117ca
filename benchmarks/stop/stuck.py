"""The policy node with a policy that is stuck for half a second at every tenth decision."""

from __future__ import annotations

import itertools
import time

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.bundle_policy import BundlePolicy
from dql_core.runtime.policy import Committed, Decision
from dql_ros.nodes import policy_node

_STUCK_S, _TURNS = 0.5, 10


def get_stuck() -> None:
    """Let decisions compute in Python, which takes the interpreter's lock in turns."""
    decide, turns = BundlePolicy.act, itertools.count(1)

    def act(
        policy: BundlePolicy,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        # At start it is timed on zeros.
        if observation.any() and next(turns) % _TURNS == 0:
            until_s = time.monotonic() + _STUCK_S
            while time.monotonic() < until_s:
                pass
        return decide(policy, observation, rng, committed)

    setattr(BundlePolicy, "act", act)  # noqa: B010 - mypy minds an assignment


if __name__ == "__main__":
    get_stuck()
    policy_node.main()
