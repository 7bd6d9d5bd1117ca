"""Writes down the commands on the wire, in a process of its own: a JSON line each.

``[when it was sent, its number, its stamp, wall clock minus steady clock, its values]``; times in
seconds, the first on the steady clock. When it was sent is told by the middleware's stamp, so that
it does not matter when this process is given a core.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from dql_ros.nodes.topics import reliable


def main() -> None:
    """Record until SIGINT."""
    ended = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("recorder", enable_rosout=False)
    topic = node.declare_parameter("topic", "").value
    path = Path(str(node.declare_parameter("out", "").value))
    with path.open("w", buffering=1) as file:

        def note(message: Any, info: dict[str, int]) -> None:
            offset_ns = time.time_ns() - time.monotonic_ns()
            stamp = message.header.stamp
            sent_s = (info["source_timestamp"] - offset_ns) / 1e9
            stamp_s = stamp.sec + stamp.nanosec / 1e9
            number = info["publication_sequence_number"]
            row = [sent_s, number, stamp_s, offset_ns / 1e9, list(message.velocity)]
            file.write(json.dumps(row) + "\n")

        heard: Any = note  # rclpy knows callbacks with two arguments, its types do not
        node.create_subscription(JointState, topic, heard, reliable(1000))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    main()
