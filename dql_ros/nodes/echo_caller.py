"""Calls the echo node until it answers, and prints how long that took as JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.nodes.echo_node import ANSWER, CALL
from dql_ros.nodes.interfaces import reliable

_ROUND_TRIPS = 50
_REPEAT_S = 0.05


class Caller:
    """Sends numbered calls and hears their echoes."""

    def __init__(self, context: Context) -> None:
        self._heard = ""
        self._node = Node("caller", context=context, enable_rosout=False)
        self._calls = self._node.create_publisher(String, CALL, reliable(10))
        self._node.create_subscription(String, ANSWER, self._note, reliable(10))
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)

    def call(self, word: str, deadline_s: float) -> float:
        """Send ``word`` until it comes back; return the seconds since it was last sent.

        Raises:
            TimeoutError: If it has not come back by ``deadline_s`` of the monotonic clock.
        """
        while time.monotonic() < deadline_s:
            sent_s = time.monotonic()
            self._calls.publish(String(data=word))
            while time.monotonic() < sent_s + _REPEAT_S:
                self._executor.spin_once(timeout_sec=_REPEAT_S)
                if self._heard == word:
                    return time.monotonic() - sent_s
        raise TimeoutError("no message came through")

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _note(self, message: Any) -> None:
        self._heard = message.data


def main() -> None:
    """Print how long discovery took, and the median of some round trips."""
    timeout_s = float(sys.argv[1])
    context = Context()
    rclpy.init(args=[], context=context)
    caller = Caller(context)
    started_s = time.monotonic()
    try:
        caller.call("first", started_s + timeout_s)
        found_s = time.monotonic() - started_s
        trips_s = [
            caller.call(str(number), time.monotonic() + timeout_s)
            for number in range(_ROUND_TRIPS)
        ]
    except TimeoutError as error:
        sys.exit(f"{error} within {timeout_s:.0f} s")
    finally:
        caller.close()
        context.try_shutdown()
    answer = {"found_s": found_s, "round_trip_ms": statistics.median(trips_s) * 1e3}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
