"""A control node whose policy decides chunks of actions: what it saw, and the step in them."""

import sys
import time

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode
from dql_ros.nodes.parameters import Parameter, value_of

HORIZON, CANDIDATES = 8, 3
STEP = 0.125
PARAMETERS = (Parameter("takes_s", 0.0, "seconds that a decision takes", (0.0, 5.0)),)


class Chunking:
    """Acts by the first number of the observation, and goes on from nothing."""

    horizon = HORIZON

    def __init__(self, spec: PolicySpec, takes_s: float) -> None:
        self.spec = spec
        self._takes_s = takes_s

    def reset(self) -> None:
        """Nothing to forget."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        time.sleep(self._takes_s)
        steps = STEP * np.arange(HORIZON, dtype=np.float32)
        chunk = np.stack([np.full_like(steps, observation[0]), steps], axis=1)
        return Decision.of_chunk(
            chunk, np.zeros(CANDIDATES, np.float32), np.stack([chunk] * CANDIDATES)
        )


def load_chunking(node: Node, spec: PolicySpec) -> LoadedPolicy:
    return LoadedPolicy(Chunking(spec, value_of(node, "takes_s")), None, "chunks", execute=3)


if __name__ == "__main__":
    sys.exit(run(lambda: ControlNode.started("policy", PARAMETERS, load_chunking)))
