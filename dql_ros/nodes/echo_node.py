"""Sends back every message it gets: one end of `dql doctor`'s test of the transport."""

from __future__ import annotations

import sys

from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.nodes.base import run
from dql_ros.nodes.interfaces import reliable

CALL, ANSWER = "dql_doctor/call", "dql_doctor/answer"


class EchoNode(Node):
    """Answers each call with the same words.

    Attributes:
        finished: Never; it ends by a signal, or with the process that started it.
    """

    finished = False

    def __init__(self) -> None:
        """Open both topics."""
        super().__init__("echo")
        answers = self.create_publisher(String, ANSWER, reliable(10))
        self.create_subscription(String, CALL, answers.publish, reliable(10))

    def last_acts(self) -> None:
        """Nothing is left to be done."""


def main() -> None:
    """Run the node."""
    sys.exit(run(EchoNode))


if __name__ == "__main__":
    main()
