"""Yardsticks: the least that an rclpy node can do, each with the executor that is asked for.

``timer`` does nothing at a fixed rate; ``echo`` answers each state with a constant command, and
``stop`` each message on ``~/stop``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.experimental.events_executor import EventsExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray

from benchmarks.control.robot import COMMAND_TOPIC, JOINTS, STATE_TOPIC
from benchmarks.control.samples import SampleLog

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "single": SingleThreadedExecutor,
    "events": EventsExecutor,
}
READY = "ready"


class BareNode(Node):
    """A timer or an echo, and its log."""

    def __init__(self) -> None:
        super().__init__("bare")
        self.log = SampleLog()
        kind = self.declare_parameter("kind", "timer").value
        rate_hz = self.declare_parameter("rate_hz", 100.0).value
        self.executor_name = str(self.declare_parameter("executor", "single").value)
        self._command = Float64MultiArray(data=[0.0] * len(JOINTS))
        if kind == "timer":
            self.create_timer(1.0 / rate_hz, self._on_timer)
            return
        self._commands = self.create_publisher(Float64MultiArray, COMMAND_TOPIC, 1)
        if kind == "stop":
            self.create_subscription(Bool, "~/stop", self._on_stop, 1)
        else:
            qos = qos_profile_sensor_data
            qos.depth = 1
            self.create_subscription(JointState, STATE_TOPIC, self._on_state, qos)

    def _on_timer(self) -> None:
        self.log.add(time.monotonic_ns())

    def _on_stop(self, _: Any) -> None:
        self._commands.publish(self._command)

    def _on_state(self, state: Any) -> None:
        begun_ns = time.monotonic_ns()
        self._commands.publish(self._command)
        stamp = state.header.stamp
        self.log.add(begun_ns)
        self.log.add_latency(time.time_ns() - stamp.sec * 1_000_000_000 - stamp.nanosec)


def main() -> None:
    """Run the node until SIGINT, then write its log."""
    ended: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: ended.append(number))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = BareNode()
    executor = EXECUTORS[node.executor_name]()
    executor.add_node(node)
    get_logger(node.get_name()).info(READY)
    while not ended:
        executor.spin_once(timeout_sec=0.1)
    node.log.save()
    try_shutdown()


if __name__ == "__main__":
    main()
