"""A control node whose action is what it observes."""

import sys

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode

BROKEN = 3.0  # an observation at which the policy breaks


class Mirror:
    """Acts as it sees."""

    horizon = 1

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec

    def reset(self) -> None:
        """Nothing to forget."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        if observation[0] == BROKEN:
            raise ZeroDivisionError("the policy broke")
        action = observation[: len(self.spec.action)].copy()
        return Decision(action, np.zeros(1, np.float32), action[None])


def load_mirror(_: Node, spec: PolicySpec) -> LoadedPolicy:
    return LoadedPolicy(Mirror(spec), None, "a mirror")


if __name__ == "__main__":
    sys.exit(run(lambda: ControlNode.started("policy", (), load_mirror)))
