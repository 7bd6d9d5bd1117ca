"""A node of one's own, beside whatever else the process does with ``rclpy``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dql_core.errors import SimulationError
from dql_ros.nodes.base import RCLError
from dql_ros.processes import inside
from dql_ros.sros2 import explain_refusal

T = TypeVar("T", bound="ClientNode")


class ClientNode:
    """A node with a context and an executor of its own.

    Attributes:
        node: The node.
    """

    def __init__(self, domain: int | None, name: str) -> None:
        """Join the ROS domain ``domain``, by default the environment's, under ``name``.

        Raises:
            SimulationError: If ROS 2's security does not let it.
        """
        self._context = Context()
        try:
            with nullcontext() if domain is None else inside(domain):
                rclpy.init(args=[], context=self._context)
                self.node = Node(
                    name,
                    context=self._context,
                    enable_rosout=False,
                    start_parameter_services=False,
                )
        except RCLError as error:
            if reason := explain_refusal(str(error)):
                raise SimulationError(reason) from error
            raise
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def spin_once(self, timeout_s: float) -> None:
        """Handle one event, if one comes within so many seconds."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
