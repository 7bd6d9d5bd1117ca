"""The policy node as it is, with an `Echo` of what it hears beside it."""

from __future__ import annotations

import sys

from rclpy.node import Node

from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode
from dql_ros.nodes.policy_node import PARAMETERS, load_wanted
from tests.ros.nodes.witness_node import Echo


def load_beside_echo(node: Node, spec: PolicySpec) -> LoadedPolicy:
    Echo(node)
    return load_wanted(node, spec)


def make_node() -> ControlNode:
    return ControlNode.started("witness", PARAMETERS, load_beside_echo)


if __name__ == "__main__":
    sys.exit(run(make_node))
