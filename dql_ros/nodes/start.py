"""The commands that start the nodes.

A node's imports take a second, in which Python may drop the exception that Ctrl-C raises: the node
would go on and drive. So the signals are heeded first.
"""

from __future__ import annotations

import importlib

from dql_ros.nodes.end_request import heed_signals


def policy_node() -> None:
    """Run a policy."""
    _start("policy_node")


def demonstrator_node() -> None:
    """Run the scripted operator of the demo."""
    _start("demonstrator_node")


def sim_bridge_node() -> None:
    """Run a simulated robot."""
    _start("sim_bridge_node")


def recorder_node() -> None:
    """Record."""
    _start("recorder_node")


def _start(name: str) -> None:
    heed_signals()
    importlib.import_module(f"dql_ros.nodes.{name}").main()
