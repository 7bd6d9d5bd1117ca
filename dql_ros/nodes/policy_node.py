"""Runs an exported policy bundle on a robot: observations in, commands out.

It imports torch only if its parameters choose that.
"""

from __future__ import annotations

import sys

from rclpy.node import Node

from dql_core.spec import PolicySpec
from dql_ros.control.loaded_policy import LoadedPolicy, load_bundle
from dql_ros.nodes import control_node
from dql_ros.nodes.base import run
from dql_ros.nodes.control_node import ControlNode
from dql_ros.nodes.parameters import Parameter, path_of, value_of

PARAMETERS = (
    Parameter("policy", "", "folder of the policy bundle", required=True),
    Parameter(
        "num_candidates",
        0,
        "number of actions sampled to choose from; 0: the bundle's own",
        (0, 100_000),
    ),
    Parameter(
        "selection",
        "bundle",
        "how one of them is chosen; bundle: the bundle's own way",
        choices=("bundle", "softmax", "greedy", "mode", "first"),
    ),
    Parameter(
        "warm_start",
        0.0,
        "correlation of an action's noise with that of the action before, so that the policy does "
        "not switch between two ways of doing the task; 0: independent noise",
        (0.0, 1.0),
    ),
    Parameter(
        "bound_observations",
        True,
        "give the policy, for a field beyond the training data's smallest or largest value, that "
        "value; within the data nothing changes",
    ),
    Parameter(
        "backend",
        "auto",
        "what computes actions: ONNX Runtime, torch, or the faster of these on the device",
        choices=("auto", "onnx", "torch"),
    ),
    Parameter(
        "device",
        "auto",
        "where actions are computed: cpu, cuda, cuda:0, cuda:1, …; auto: CUDA if a device and the "
        "libraries for it are there, else the CPU",
    ),
)
DECLARED = (*PARAMETERS, *control_node.PARAMETERS)


def load_wanted(node: Node, spec: PolicySpec) -> LoadedPolicy:
    """Load the bundle that the parameters name; see `load_bundle`."""
    selection = value_of(node, "selection")
    return load_bundle(
        path_of(node, "policy"),
        spec,
        num_candidates=value_of(node, "num_candidates") or None,
        selection=None if selection == "bundle" else selection,
        warm_start=value_of(node, "warm_start"),
        bound_observations=value_of(node, "bound_observations"),
        backend=value_of(node, "backend"),
        device=value_of(node, "device"),
    )


def make_node() -> ControlNode:
    """Make the node, and start it if the parameters say so."""
    return ControlNode.started("policy", PARAMETERS, load_wanted)


def main() -> None:
    """Run the node."""
    sys.exit(run(make_node))


if __name__ == "__main__":
    main()
