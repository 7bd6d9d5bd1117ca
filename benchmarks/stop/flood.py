"""The policy node in a process that logs a thousand lines a second."""

from __future__ import annotations

import threading
import time

from rclpy.logging import get_logger

from dql_ros.nodes import policy_node

_PERIOD_S = 0.001


def flood() -> None:
    """Log for as long as the process lives."""
    while True:
        get_logger("flood").info(100 * "x")
        time.sleep(_PERIOD_S)


if __name__ == "__main__":
    threading.Thread(target=flood, daemon=True).start()
    policy_node.main()
