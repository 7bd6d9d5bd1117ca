"""A node in this process, beside whatever else the process does with ``rclpy``."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dql_core.errors import SimulationError
from dql_ros.domain import inside
from dql_ros.nodes.base import RCLError
from dql_ros.sros2 import explain_refusal

T = TypeVar("T", bound="SideNode")


class SideNode:
    """A node with a context and an executor of its own; what is built upon it adds topics.

    Attributes:
        node: The node.
    """

    def __init__(self, domain: int, name: str) -> None:
        """Join the ROS domain ``domain`` under ``name``.

        Raises:
            SimulationError: If ROS 2's security does not let it.
        """
        self._context = Context()
        try:
            with inside(domain):
                rclpy.init(args=[], context=self._context)
                self.node = Node(
                    name,
                    context=self._context,
                    enable_rosout=False,
                    start_parameter_services=False,
                )
        except RCLError as error:
            if told := explain_refusal(str(error)):
                raise SimulationError(told) from error
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
