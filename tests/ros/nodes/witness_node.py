"""The policy node with a policy that does nothing but tell what it observes, and when.

It publishes JSON texts: on ``~/seen`` each observation with the time of the node's clock, and on
``~/heard`` that time after each message of an observed topic or of the clock. Both say how many
such messages there were by then.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import PolicySpec
from dql_ros.codecs.installed import message_class
from dql_ros.contract import load_contract
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode
from dql_ros.nodes.parameters import path_of
from dql_ros.nodes.topics import qos_profile, reliable


class Echo:
    """Tells what a node hears."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._count = 0
        # Latched: the test may come to know of these topics after the first messages.
        self._heard = node.create_publisher(String, "~/heard", reliable(1000, latched=True))
        contract = load_contract(path_of(node, "contract"))
        for stream in contract.observed_topics:
            node.create_subscription(
                message_class(stream.type), stream.topic, self._hear, qos_profile(stream.qos)
            )
        if takeover := contract.takeover:
            types = takeover.types(contract.action)
            for topic in takeover.heard_topics:
                kind = message_class(types[topic])
                node.create_subscription(kind, topic, self._hear, reliable(1000))
        node.create_subscription(Clock, "/clock", self._hear, reliable(1000))

    def by_now(self) -> dict[str, int]:
        """The node's time, and how many messages there were."""
        return {"now": int(self._node.get_clock().now().nanoseconds), "count": self._count}

    def _hear(self, _message: object) -> None:
        self._count += 1
        self._heard.publish(String(data=json.dumps(self.by_now())))


class Witness:
    """Publishes what it is shown."""

    horizon = 1

    def __init__(self, node: Node, spec: PolicySpec) -> None:
        self.spec = spec
        self._echo = Echo(node)
        self._seen = node.create_publisher(String, "~/seen", reliable(1000, latched=True))

    def reset(self) -> None:
        """Nothing to begin."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        seen = {**self._echo.by_now(), "bytes": observation.tobytes().hex()}
        self._seen.publish(String(data=json.dumps(seen)))
        action = np.asarray(self.spec.action_low, dtype=np.float32)
        return Decision(action, np.zeros(1, np.float32), action[None])


def load_witness(node: Node, spec: PolicySpec) -> LoadedPolicy:
    return LoadedPolicy(Witness(node, spec), None, "a witness")


def make_node() -> ControlNode:
    return ControlNode.started("witness", (), load_witness)


if __name__ == "__main__":
    sys.exit(run(make_node))
