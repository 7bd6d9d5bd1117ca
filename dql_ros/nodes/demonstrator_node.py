"""Lets the scripted operator drive the demo robot, through the same node as a trained policy."""

from __future__ import annotations

import sys

from rclpy.node import Node

from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode


def load_demonstrator(_node: Node, spec: PolicySpec) -> LoadedPolicy:
    """Make the operator of the demo robot."""
    return LoadedPolicy(ScaraDemonstrator(spec), None, "the scripted operator")


def make_node() -> ControlNode:
    """Make the node, and start it if the parameters say so."""
    return ControlNode.started("demonstrator", (), load_demonstrator)


def main() -> None:
    """Run the node."""
    sys.exit(run(make_node))


if __name__ == "__main__":
    main()
