"""Lets somebody else's trained actor drive its Gymnasium robot, as a person's demonstrations."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from benchmarks.suite.actors import Actor, load_actor
from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode

ACTOR_VARIABLE = "DQL_BENCHMARK_ACTOR"


class Driver:
    """An actor that draws its actions."""

    horizon = 1

    def __init__(self, actor: Actor, spec: PolicySpec) -> None:
        self.spec = spec
        self._actor = actor

    def reset(self) -> None:
        """Nothing is carried from one episode to the next."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        """Draw an action for an observation, shape (O,)."""
        action = self._actor.act(observation, rng)
        return Decision(action, np.zeros(1, np.float32), action[None])


def load_driver(_: Node, spec: PolicySpec) -> LoadedPolicy:
    """Read the actor that the environment names."""
    path = Path(os.environ[ACTOR_VARIABLE])
    return LoadedPolicy(Driver(load_actor(path), spec), None, f"the actor {path.stem}")


def make_node() -> ControlNode:
    """Make the node, and start it if the parameters say so."""
    return ControlNode.started("actor", (), load_driver)


if __name__ == "__main__":
    sys.exit(run(make_node))
