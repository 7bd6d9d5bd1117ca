"""The arm: joint states at a fixed rate, and a listener to its commands."""

from __future__ import annotations

import math
import signal
import threading
import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from benchmarks.control.robot import COMMAND_TOPIC, JOINTS, STATE_HZ, STATE_TOPIC

PERIOD_S = 1.0 / STATE_HZ


def main() -> None:
    """Publish states until SIGINT."""
    ended = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("states")
    node.create_subscription(Float64MultiArray, COMMAND_TOPIC, lambda _: None, 1)
    publisher = node.create_publisher(JointState, STATE_TOPIC, 1)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    listener = threading.Thread(target=_listen, args=(executor, ended))
    listener.start()
    message: Any = JointState(name=list(JOINTS))
    due_s = time.monotonic()
    while not ended.wait(max(0.0, due_s - time.monotonic())):
        message.position = [math.sin(due_s + joint) for joint in range(len(JOINTS))]
        message.velocity = [math.cos(due_s + joint) for joint in range(len(JOINTS))]
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        # States that could not be sent in time are left out, not sent in a burst.
        late = max(0.0, time.monotonic() - due_s) // PERIOD_S
        due_s += (1.0 + late) * PERIOD_S
    listener.join()
    try_shutdown()


def _listen(executor: SingleThreadedExecutor, ended: threading.Event) -> None:
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    main()
