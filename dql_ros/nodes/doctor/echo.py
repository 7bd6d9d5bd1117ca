"""Both ends of `dql doctor`'s test of the transport, each in a process of its own.

    python -m dql_ros.nodes.doctor.echo                      # sends back every message it gets
    python -m dql_ros.nodes.doctor.echo call TIMEOUT_S       # calls it, and prints JSON

What is printed is how long the first answer took, and the median of some round trips.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.nodes.base import ClientNode, run
from dql_ros.nodes.topics import reliable

_CALL, _ANSWER = "dql_doctor/call", "dql_doctor/answer"
_ROUND_TRIPS = 50
_REPEAT_S = 0.05


class EchoNode(Node):
    """Answers each call with the same words.

    Attributes:
        finished: Never; it ends by a signal, or with the process that started it.
    """

    finished = False

    def __init__(self) -> None:
        """Open both topics."""
        super().__init__("echo")
        answers = self.create_publisher(String, _ANSWER, reliable(10))
        self.create_subscription(String, _CALL, answers.publish, reliable(10))

    def on_exit(self) -> None:
        """Nothing is left to be done."""


class Caller(ClientNode):
    """Sends numbered calls and hears their echoes."""

    def __init__(self) -> None:
        super().__init__(None, "caller")
        self._heard = ""
        self._calls = self.node.create_publisher(String, _CALL, reliable(10))
        self.node.create_subscription(String, _ANSWER, self._note, reliable(10))

    def call(self, word: str, deadline_s: float) -> float:
        """Send ``word`` until it comes back; return the seconds since it was last sent.

        Raises:
            TimeoutError: If it has not come back by ``deadline_s`` of the monotonic clock.
        """
        while time.monotonic() < deadline_s:
            sent_s = time.monotonic()
            self._calls.publish(String(data=word))
            while time.monotonic() < sent_s + _REPEAT_S:
                self.spin_once(_REPEAT_S)
                if self._heard == word:
                    return time.monotonic() - sent_s
        raise TimeoutError("no message arrived")

    def _note(self, message: Any) -> None:
        self._heard = message.data


def main() -> None:
    """Run one of the two."""
    if sys.argv[1:2] == ["call"]:
        call(float(sys.argv[2]))
    else:
        sys.exit(run(EchoNode))


def call(timeout_s: float) -> None:
    """Print how long discovery took, and the median of some round trips."""
    with Caller() as caller:
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
    answer = {"found_s": found_s, "round_trip_ms": statistics.median(trips_s) * 1e3}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
